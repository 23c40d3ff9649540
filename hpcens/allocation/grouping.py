"""Grouping: phases, for ensembles that no placement holds. Those of a phase are scored together, over all rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import ceil

from hpcens.allocation.bound import pools
from hpcens.allocation.menu import make_menu
from hpcens.allocation.model import Placement, best_throughput
from hpcens.allocation.optimal import place_optimal
from hpcens.allocation.problem import Problem
from hpcens.errors import UsageError

# Numbers of phases tried after the first that will do, while they take less time.
_MORE = 3


@dataclass(frozen=True, slots=True)
class Phase:
    """Some of the members as a problem of their own, and their placement."""

    problem: Problem
    placement: Placement


def place_in_phases(problem: Problem) -> tuple[Phase, ...]:
    """Find the phases of least time: few of them, of members that fill the devices alike or need like workspaces.

    One phase for each member always is a solution, where every member fits some device alone.
    """
    best: tuple[Phase, ...] = ()
    least = float("inf")
    first = 0
    for count in range(_fewest(problem), len(problem.members) + 1):
        before = least
        for groups in _groupings(problem, count):
            phases = _placed(problem, groups, thorough=False)
            if phases and (seconds := _seconds(phases)) < least:
                best, least, first = phases, seconds, first or count
        if best and (least == before or count - first >= _MORE):
            break
    whole = _placed(problem, [phase.problem.members for phase in best], thorough=True)
    return min((best, whole), key=lambda phases: _seconds(phases) if phases else float("inf"))


def _fewest(problem: Problem) -> int:
    """Return the number of phases that the weights need at least: no fewer than two."""
    menu = make_menu(problem, pools(problem), largest=True)
    room = sum(room * len(pool.devices) for room, pool in zip(menu.room, menu.pools, strict=True))
    sizes = _sizes(problem)
    return min(len(sizes), max(2, ceil(sum(weights for weights, _ in sizes.values()) / room)))


def _sizes(problem: Problem) -> dict[str, tuple[int, int]]:
    """Return of each member the bytes of weights, and of its smallest workspace, where they are least."""
    return {
        member: min(
            (profile.weights, min((b.workspace for b in profile.batches.values()), default=0))
            for (_, name, _), profile in problem.profiles.items()
            if name == member and profile.batches
        )
        for member in problem.members
    }


def _groupings(problem: Problem, count: int) -> Iterator[list[tuple[str, ...]]]:
    """Split the members into `count` groups: of like size, the largest first; and of like workspaces, side by side."""
    sizes = _sizes(problem)
    order = {member: i for i, member in enumerate(problem.members)}
    level: list[list[str]] = [[] for _ in range(count)]
    full = [0] * count
    for member in sorted(problem.members, key=lambda m: -sum(sizes[m])):
        group = full.index(min(full))
        level[group].append(member)
        full[group] += sizes[member][0] or 1
    beside: list[list[str]] = [[]]
    total, filled = sum(weights or 1 for weights, _ in sizes.values()), 0
    for left, member in enumerate(sorted(problem.members, key=lambda m: sizes[m][1])):
        remaining = len(problem.members) - left
        full_enough = filled >= total * len(beside) / count or remaining <= count - len(beside)
        if beside[-1] and len(beside) < count and full_enough:
            beside.append([])
        beside[-1].append(member)
        filled += sizes[member][0] or 1
    for groups in (level, beside):
        ordered = [tuple(sorted(group, key=order.__getitem__)) for group in groups if group]
        yield sorted(ordered, key=lambda group: order[group[0]])


def _placed(problem: Problem, groups: Sequence[tuple[str, ...]], *, thorough: bool) -> tuple[Phase, ...]:
    """Place every group; () where one does not fit."""
    phases = []
    for group in groups:
        alone = replace(problem, members=group, seconds=problem.seconds / len(groups))
        try:
            phases.append(Phase(alone, place_optimal(alone, thorough=thorough)))
        except UsageError:
            return ()
    return tuple(phases)


def _seconds(phases: Sequence[Phase]) -> float:
    """Return the seconds it takes to load and to score all phases."""
    return sum(
        max(1, phase.problem.rows) / best_throughput(phase.problem, phase.placement)
        + load_seconds(phase.problem, phase.placement)
        for phase in phases
    )


def load_seconds(problem: Problem, placement: Placement) -> float:
    """Return the seconds until the device that takes longest has loaded its members."""
    kinds = {device.name: device.kind for device in problem.devices}
    return max(
        sum(problem.profiles[kinds[device], m, placement.runs[m].runtime].load_seconds for m in members)
        for device, members in placement.hosted.items()
    )
