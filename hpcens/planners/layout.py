"""Layouts: which members each device of a pool hosts, so that their times come out and the memory holds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import ceil
from random import Random

from hpcens.planners.bound import Pool
from hpcens.planners.model import Choice, device_memory, measured
from hpcens.planners.problem import Problem

# Loading every member on every device is cheap within these seconds, or this part of the run.
_LOAD_SECONDS = 10.0
_LOAD_PART = 0.02
# Changes tried of the order in which members are laid end to end, where the first does not fit.
_TRIES = 500
# Device time too short for an instance: the shares are computed afterwards and make up for it.
_SLIVER = 1e-8

# for each device of a pool, in its order: the members it hosts
Layout = tuple[tuple[str, ...], ...]


def lay(
    problem: Problem, pool: Pool, times: Mapping[str, float], runs: Mapping[str, Choice], run_seconds: float
) -> tuple[Layout, float]:
    """A layout of the members' times (devices' worth, on this pool), and the bytes by which it is too large.

    Replicated, all members on every device, where the memory holds that and loading them takes at
    most 10 s or 2 % of the run. Else wrapped; where the memory does not hold the members in the
    order given, in the best order found by exchanging and moving one at a time.
    """
    members = tuple(m for m in problem.members if m in times)
    excess = _excess(problem, pool, runs)
    loading = sum(problem.profiles[pool.kind, m, runs[m].runtime].load_seconds for m in members)
    replicated = (members,) * len(pool.devices)
    if loading <= max(_LOAD_SECONDS, _LOAD_PART * run_seconds) and excess(replicated) == 0:
        return replicated, 0
    wrapped = _wrapped(times, members, len(pool.devices))
    if excess(wrapped) == 0:
        return wrapped, 0
    return _reordered(problem, pool, times, runs, excess)


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


def _excess(problem: Problem, pool: Pool, runs: Mapping[str, Choice]) -> Callable[[Layout], float]:
    """Bytes that a layout needs beyond the memory of its devices, summed; what was computed is kept."""
    needed: dict[frozenset[str], float] = {}

    def excess(layout: Layout) -> float:
        total = 0.0
        for device, members in zip(pool.devices, layout, strict=True):
            key = frozenset(members)
            if key not in needed:
                needed[key] = device_memory(problem, pool.kind, members, runs)
            total += max(0.0, needed[key] - device.memory)
        return total

    return excess


def _reordered(
    problem: Problem,
    pool: Pool,
    times: Mapping[str, float],
    runs: Mapping[str, Choice],
    excess: Callable[[Layout], float],
) -> tuple[Layout, float]:
    def workspace(member: str) -> int:
        found = measured(problem, pool.kind, member, runs[member])
        return found[1].workspace if found else 0

    # Side by side, members with large workspaces share one.
    order = sorted((m for m in problem.members if m in times), key=workspace)
    best = _wrapped(times, order, len(pool.devices))
    least = excess(best)
    random = Random(0)
    for _ in range(_TRIES):
        if least == 0:
            break
        other = order.copy()
        here, there = random.randrange(len(order)), random.randrange(len(order))
        if random.random() < 0.5:
            other[here], other[there] = other[there], other[here]
        else:
            other.insert(there, other.pop(here))
        layout = _wrapped(times, other, len(pool.devices))
        if (now := excess(layout)) <= least:
            order, best, least = other, layout, now
    return best, least
