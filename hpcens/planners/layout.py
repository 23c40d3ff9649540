"""Layouts: which members each device of a pool hosts, so that their times come out and the memory holds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from random import Random

from hpcens.devices import Device
from hpcens.planners.bound import Pool
from hpcens.planners.model import Choice, device_memory
from hpcens.planners.problem import Problem

# Loading every member on every device is cheap within these seconds, or this part of the run.
_LOAD_SECONDS = 10.0
_LOAD_PART = 0.02
# Orders in which members are laid end to end, until the memory of all devices holds.
_ORDERS = 100
# Device time too short for an instance: the shares are computed afterwards and make up for it.
_SLIVER = 1e-8

# for each device of a pool, in its order: the members it hosts
Layout = tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Full:
    """A device whose memory does not hold these members."""

    device: Device
    members: tuple[str, ...]


def lay(
    problem: Problem, pool: Pool, times: Mapping[str, float], runs: Mapping[str, Choice], throughput: float
) -> Layout | Full:
    """A layout of the members' times (devices' worth of time on the pool) that the memory holds.

    Replicated where that fits and loads quickly: all members in 10 s, or 2 % of the run. Else
    wrapped, the members in the order given, by workspace (large ones then share a device's one
    workspace), or in orders drawn, the same every time. Full where none of them fits.
    """
    full: Full | None = None
    for layout in _layouts(problem, pool, times, runs, throughput):
        full = _first_full(problem, pool, layout, runs)
        if full is None:
            return layout
    assert full is not None
    return full


def workspace(problem: Problem, kind: str, member: str, choice: Choice) -> int:
    """Bytes of activation workspace; the choice must have been measured on the kind."""
    return problem.profiles[kind, member, choice.runtime].batches[choice.batch].workspace


def _layouts(
    problem: Problem, pool: Pool, times: Mapping[str, float], runs: Mapping[str, Choice], throughput: float
) -> Iterator[Layout]:
    members = tuple(m for m in problem.members if m in times)
    loading = sum(problem.profiles[pool.kind, m, runs[m].runtime].load_seconds for m in members)
    if loading <= max(_LOAD_SECONDS, _LOAD_PART * problem.rows / throughput):
        yield (members,) * len(pool.devices)
    yield _wrapped(times, members, len(pool.devices))
    by_workspace = sorted(members, key=lambda m: workspace(problem, pool.kind, m, runs[m]))
    yield _wrapped(times, by_workspace, len(pool.devices))
    random = Random(0)
    for _ in range(_ORDERS - 2):
        yield _wrapped(times, random.sample(members, len(members)), len(pool.devices))


def _wrapped(times: Mapping[str, float], order: Sequence[str], devices: int) -> Layout:
    """The times laid end to end over [0, devices): device i hosts those that meet [i, i + 1)."""
    hosted: list[list[str]] = [[] for _ in range(devices)]
    start = 0.0
    for member in order:
        stop = start + times[member]
        first = min(int(start + _SLIVER), devices - 1)
        for device in range(first, min(max(ceil(stop - _SLIVER), first + 1), devices)):
            hosted[device].append(member)
        start = stop
    return tuple(tuple(members) for members in hosted)


def _first_full(problem: Problem, pool: Pool, layout: Layout, runs: Mapping[str, Choice]) -> Full | None:
    needed: dict[tuple[str, ...], float] = {}
    for device, members in zip(pool.devices, layout, strict=True):
        if members not in needed:
            needed[members] = device_memory(problem, pool.kind, {m: runs[m] for m in members})
        if needed[members] > device.memory:
            return Full(device, members)
    return None
