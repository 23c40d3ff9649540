"""The performance model: memory and speed of members placed on devices, from their profiles.

A device runs its instances one after another in one process (HOUSE.md), so it needs the sum of
their weights but only the largest of their workspaces, and they divide its time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import inf

from hpcens.matrix import AllocationMatrix
from hpcens.planners.problem import Problem
from hpcens.planners.sharing import Group, share


@dataclass(frozen=True, slots=True, order=True)
class Choice:
    """How a member runs: one batch size and one runtime, on all its devices (they fix its bytes)."""

    batch: int
    runtime: str


@dataclass(frozen=True, slots=True)
class Placement:
    """An allocation matrix, and what a planner decided beside it.

    runtimes  member → runtime
    forced    the memory that kept the planner from a better placement, as a phrase; or empty
    """

    matrix: AllocationMatrix
    runtimes: Mapping[str, str]
    forced: str = ""

    def runs(self) -> dict[str, Choice]:
        """Member → how it runs, in member order."""
        batches = {member: batch for (_, member), batch in self.matrix.cells.items()}
        return {m: Choice(batches[m], self.runtimes[m]) for m in self.matrix.members}

    def hosted(self) -> dict[str, dict[str, Choice]]:
        """Device → the members it hosts and how they run; devices without any are absent."""
        hosted: dict[str, dict[str, Choice]] = {}
        for (device, member), batch in self.matrix.cells.items():
            hosted.setdefault(device, {})[member] = Choice(batch, self.runtimes[member])
        return hosted


def place(problem: Problem, hosted: Mapping[str, Iterable[str]], runs: Mapping[str, Choice]) -> Placement:
    """The placement with these members on these devices (by name), each run as chosen for it."""
    names = tuple(device.name for device in problem.devices)
    cells = {(device, m): runs[m].batch for device, members in hosted.items() for m in members}
    return Placement(AllocationMatrix(names, problem.members, cells), {m: c.runtime for m, c in runs.items()})


def choices(problem: Problem, member: str) -> tuple[Choice, ...]:
    """All that was measured of the member on any kind of device, small batches first."""
    found = {
        Choice(batch, runtime)
        for (_, name, runtime), profile in problem.profiles.items()
        if name == member
        for batch in profile.batches
    }
    return tuple(sorted(found))


def speed(problem: Problem, kind: str, member: str, choice: Choice) -> float:
    """Rows/s of the member on a device of the kind that runs nothing else; 0 where it was not measured."""
    profile = problem.profiles.get((kind, member, choice.runtime))
    if profile is None or choice.batch not in profile.batches:
        return 0.0
    return profile.batches[choice.batch].rows_per_second


def device_memory(problem: Problem, kind: str, hosted: Mapping[str, Choice]) -> float:
    """Bytes in use on a device of the kind: context + Σ weights + largest workspace + segments held.

    0 where it hosts nothing, inf where one of the members was not measured in this way.
    """
    context = weights = workspace = 0
    for member, choice in hosted.items():
        profile = problem.profiles.get((kind, member, choice.runtime))
        if profile is None or choice.batch not in profile.batches:
            return inf
        context = max(context, profile.context)
        weights += profile.weights
        workspace = max(workspace, profile.batches[choice.batch].workspace)
    return context + weights + workspace + problem.held if hosted else 0


def memory(problem: Problem, placement: Placement) -> dict[str, float]:
    """Bytes in use on every device, by name."""
    hosted = placement.hosted()
    return {d.name: device_memory(problem, d.kind, hosted.get(d.name, {})) for d in problem.devices}


def overfull(problem: Problem, placement: Placement) -> tuple[str, ...]:
    """Names of the devices whose memory does not hold what the placement puts there, in device order."""
    used = memory(problem, placement)
    return tuple(d.name for d in problem.devices if used[d.name] > d.memory)


def fits(problem: Problem, placement: Placement) -> bool:
    """Whether every instance was measured and every device has the memory."""
    return not overfull(problem, placement)


def member_speeds(problem: Problem, placement: Placement) -> dict[str, float]:
    """Rows/s of each member where a device gives each of its instances equally many rows.

    An instance then runs at 1 / Σ (1/speed) over the instances of its device.
    """
    kinds = {device.name: device.kind for device in problem.devices}
    speeds = dict.fromkeys(problem.members, 0.0)
    for device, hosted in placement.hosted().items():
        row_seconds = sum(1 / speed(problem, kinds[device], m, choice) for m, choice in hosted.items())
        for member in hosted:
            speeds[member] += 1 / row_seconds
    return speeds


def best_shares(problem: Problem, placement: Placement) -> tuple[float, dict[tuple[str, str], float]]:
    """Highest rows/s of the ensemble under the placement, and each instance's share of them.

    (device, member) → rows/s; a member's shares add up to the throughput, and no device has more
    than its time. Devices of one kind with equal instances get equal shares: nothing tells them
    apart, and it keeps the linear program small however many devices there are.
    """
    hosted = placement.hosted()
    alike: dict[tuple[str, frozenset[str]], list[str]] = {}
    for device in problem.devices:
        if device.name in hosted:
            alike.setdefault((device.kind, frozenset(hosted[device.name])), []).append(device.name)
    groups = [
        Group(len(names), {m: speed(problem, kind, m, c) for m, c in hosted[names[0]].items()})
        for (kind, _), names in alike.items()
    ]
    sharing = share(problem.members, groups)
    throughput = min(sharing.throughput, problem.reading)
    totals = dict.fromkeys(problem.members, 0.0)
    for group, times in zip(groups, sharing.times, strict=True):
        for member, time in times.items():
            totals[member] += time * group.speeds[member]
    shares = {}
    for group, times, names in zip(groups, sharing.times, alike.values(), strict=True):
        for member in group.speeds:
            rows = times.get(member, 0.0) * group.speeds[member] * throughput / totals[member]
            shares.update({(name, member): rows / group.count for name in names})
    return throughput, shares
