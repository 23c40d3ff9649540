"""Sharing: the linear program by which groups of equal devices divide their time among members.

    max T   s.t.  Σ_m time[g,m] ≤ count[g],   Σ_g time[g,m] · speed[g,m] ≥ T

Over kinds of devices it is the upper bound; over the devices of a placement it
gives the best shares. Neither number leans on the solver's tolerance: the throughput is recomputed
from times made feasible, and the bound from the prices by weak duality, which holds for any prices.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

# Times below this part of a group are rounding of the solver.
_NOISE = 1e-12


@dataclass(frozen=True, slots=True)
class Group:
    """Equal devices: how many, and the rows/s of each member that one of them can run."""

    count: int
    speeds: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Sharing:
    """The divided time, and the prices that prove how good it is.

    throughput  rows/s of the slowest member
    bound       rows/s that no division of this time exceeds
    times       for each group: member → devices' worth of time, > 0
    worth       member → part of the bound that its slowness answers for; they add up to 1
    rents       for each group: rows/s that one more such device would add
    """

    throughput: float
    bound: float
    times: tuple[Mapping[str, float], ...]
    worth: Mapping[str, float]
    rents: tuple[float, ...]


def share(members: Sequence[str], groups: Sequence[Group]) -> Sharing:
    """Divide the groups' time so as to maximise the rows/s of the slowest member.

    Every member must run in some group.
    """
    raw, worth = _alone(groups[0]) if len(groups) == 1 else _solved(members, groups)
    times = tuple(_feasible(group, part) for group, part in zip(groups, raw, strict=True))
    reached = dict.fromkeys(members, 0.0)
    for group, part in zip(groups, times, strict=True):
        for member, time in part.items():
            reached[member] += time * group.speeds[member]
    rents = tuple(max((worth[m] * speed for m, speed in group.speeds.items()), default=0.0) for group in groups)
    bound = sum(group.count * rent for group, rent in zip(groups, rents, strict=True))
    return Sharing(min(reached.values()), bound, times, worth, rents)


def _alone(group: Group) -> tuple[list[dict[str, float]], dict[str, float]]:
    """Divide the time of one group in closed form: each member gets the time that one row of it takes."""
    total = sum(1 / speed for speed in group.speeds.values())
    worth = {member: 1 / speed / total for member, speed in group.speeds.items()}
    return [{member: group.count * part for member, part in worth.items()}], worth


def _solved(members: Sequence[str], groups: Sequence[Group]) -> tuple[list[dict[str, float]], dict[str, float]]:
    import numpy as np
    from scipy.optimize import linprog
    from scipy.sparse import csr_array

    # Unknowns are parts of a group's time, and T in units of `scale`: all of order 1.
    cells = [(g, m) for g, group in enumerate(groups) for m in members if group.speeds.get(m, 0.0) > 0]
    most = dict.fromkeys(members, 0.0)
    for g, m in cells:
        most[m] += groups[g].count * groups[g].speeds[m]
    scale = min(most.values())
    row_of = {member: len(groups) + i for i, member in enumerate(members)}
    rows, columns, values = [], [], []
    for column, (g, m) in enumerate(cells):
        rows += [g, row_of[m]]
        columns += [column, column]
        values += [1.0, -groups[g].count * groups[g].speeds[m] / most[m]]
    for m in members:
        rows.append(row_of[m])
        columns.append(len(cells))
        values.append(scale / most[m])
    shape = (len(groups) + len(members), len(cells) + 1)
    answer = linprog(
        np.r_[np.zeros(len(cells)), -1.0],
        A_ub=csr_array((values, (rows, columns)), shape=shape),
        b_ub=np.r_[np.ones(len(groups)), np.zeros(len(members))],
        method="highs-ds",
    )
    if answer.status != 0:
        raise RuntimeError(f"HiGHS on {len(groups)} groups and {len(members)} members: {answer.message}")
    times: list[dict[str, float]] = [{} for _ in groups]
    for (g, m), part in zip(cells, answer.x, strict=False):
        times[g][m] = float(part) * groups[g].count
    worth = {m: max(0.0, -float(answer.ineqlin.marginals[row_of[m]])) / most[m] for m in members}
    total = sum(worth.values())
    return times, {m: value / total for m, value in worth.items()}


def _feasible(group: Group, times: Mapping[str, float]) -> dict[str, float]:
    kept = {member: time for member, time in times.items() if time > _NOISE * group.count}
    excess = max(1.0, sum(kept.values()) / group.count)
    return {member: time / excess for member, time in kept.items()}
