"""The performance model: memory and speed of members placed on devices, from their profiles.

A device runs its instances one after another in one process, so it needs the sum of
their weights but only the largest of their workspaces, and they divide its time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from math import inf

from hpcens.allocation.problem import Problem
from hpcens.allocation.sharing import Group, Sharing, share
from hpcens.vocabulary import BatchProfile, Device, Profile


@dataclass(frozen=True, slots=True, order=True)
class Choice:
    """How a member runs on all its devices alike, since it fixes its bytes: batch size and runtime."""

    batch: int
    runtime: str


@dataclass(frozen=True, slots=True)
class Placement:
    """An allocation matrix in which a member cannot have two batch sizes or two runtimes.

    hosted  device to the members it hosts, in member order; devices without any are absent
    runs    member to how it runs
    forced  the memory that kept the planner from a better placement, as a phrase; or empty
    proven  rows/s that the planner proved no placement to exceed
    late    whether a solver's time was up before its work was done: a faster machine may find a better one
    """

    hosted: Mapping[str, tuple[str, ...]]
    runs: Mapping[str, Choice]
    forced: str = ""
    proven: float = inf
    late: bool = False

    def running(self, member: str, choice: Choice) -> Placement:
        """Return the placement that differs in how this one member runs."""
        return replace(self, runs={**self.runs, member: choice})


def place(problem: Problem, hosted: Mapping[str, Iterable[str]], runs: Mapping[str, Choice]) -> Placement:
    """Return the placement with these members on these devices, brought into member order."""
    placement = Placement({}, runs)
    for device, members in hosted.items():
        placement = rehost(problem, placement, device, members)
    return placement


def rehost(problem: Problem, placement: Placement, device: str, members: Iterable[str]) -> Placement:
    """Return the placement that differs in what this one device hosts."""
    wanted = frozenset(members)
    hosted = dict(placement.hosted)
    hosted[device] = tuple(m for m in problem.members if m in wanted)
    if not wanted:
        del hosted[device]
    return replace(placement, hosted=hosted)


def measured(problem: Problem, kind: str, member: str, choice: Choice) -> tuple[Profile, BatchProfile] | None:
    """Return what was measured of the member, run like this, on a device of the kind; None where nothing was."""
    profile = problem.profiles.get((kind, member, choice.runtime))
    batch = profile and profile.batches.get(choice.batch)
    return (profile, batch) if profile and batch else None


def choices(problem: Problem, member: str) -> tuple[Choice, ...]:
    """Return all choices measured of the member on any kind of device, small batches first."""
    distinct = {
        Choice(batch, runtime)
        for (_, name, runtime), profile in problem.profiles.items()
        if name == member
        for batch in profile.batches
    }
    return tuple(sorted(distinct))


def speed(problem: Problem, kind: str, member: str, choice: Choice) -> float:
    """Return the rows/s of the member on a device of the kind that runs nothing else; 0 where it was not measured."""
    profiled = measured(problem, kind, member, choice)
    return profiled[1].rows_per_second if profiled else 0.0


def device_memory(problem: Problem, kind: str, members: Iterable[str], runs: Mapping[str, Choice]) -> float:
    """Return the bytes in use on a device of the kind: context + Σ weights + largest workspace + segments held.

    0 where it hosts nothing, inf where one of the members was not measured so.
    """
    parts = [measured(problem, kind, member, runs[member]) for member in members]
    profiled = [part for part in parts if part]
    if len(profiled) < len(parts):
        return inf
    if not profiled:
        return 0
    context = max(profile.context for profile, _ in profiled)
    workspace = max(batch.workspace for _, batch in profiled)
    return context + sum(profile.weights for profile, _ in profiled) + workspace + problem.held


def fits(problem: Problem, placement: Placement) -> bool:
    """Tell whether every instance was measured and every device has the memory for its own."""
    return all(
        device_memory(problem, device.kind, placement.hosted[device.name], placement.runs) <= device.memory
        for device in problem.devices
        if device.name in placement.hosted
    )


def member_speeds(problem: Problem, placement: Placement) -> dict[str, float]:
    """Return the rows/s of each member where a device gives each of its instances equally many rows.

    An instance then runs at 1 / Σ (1/speed) over the instances of its device.
    """
    kinds = {device.name: device.kind for device in problem.devices}
    speeds = dict.fromkeys(problem.members, 0.0)
    for device, members in placement.hosted.items():
        row_seconds = sum(1 / speed(problem, kinds[device], m, placement.runs[m]) for m in members)
        for member in members:
            speeds[member] += 1 / row_seconds
    return speeds


@dataclass(frozen=True, slots=True)
class Division:
    """The devices of a placement that nothing tells apart, as groups, and how they best divide their time.

    Equal devices then have equal shares, and the linear program stays small however many there are.
    """

    devices: tuple[tuple[Device, ...], ...]
    groups: tuple[Group, ...]
    sharing: Sharing


def divide(problem: Problem, placement: Placement) -> Division:
    """Return the division of device time with the highest throughput under the placement."""
    alike: dict[tuple[str, tuple[str, ...]], list[Device]] = {}
    for device in problem.devices:
        if device.name in placement.hosted:
            alike.setdefault((device.kind, placement.hosted[device.name]), []).append(device)
    groups = tuple(
        Group(len(devices), {m: speed(problem, kind, m, placement.runs[m]) for m in members})
        for (kind, members), devices in alike.items()
    )
    return Division(tuple(map(tuple, alike.values())), groups, share(problem.members, groups))


def best_throughput(problem: Problem, placement: Placement) -> float:
    """Return the highest rows/s of the ensemble under the placement; no more than readers and reducers pass."""
    return min(divide(problem, placement).sharing.throughput, problem.passing)


def shares_of(division: Division, throughput: float) -> Iterator[dict[str, float]]:
    """Yield for each group the rows/s of its members on one of its devices: a member's add up to the throughput.

    Throughput is at most that of the division: no device has more work than time.
    """
    done: dict[str, float] = {}
    for group, times in zip(division.groups, division.sharing.times, strict=True):
        for member, time in times.items():
            done[member] = done.get(member, 0.0) + time * group.speeds[member]
    for group, times in zip(division.groups, division.sharing.times, strict=True):
        yield {m: throughput * (times.get(m, 0.0) * rate / done[m]) / group.count for m, rate in group.speeds.items()}
