"""The integer program over cells: whether each device hosts each member, for ensembles on very few devices.

    max T   s.t.  Σ_m weights · hosted[d,m] + level[d] ≤ room            hosted 0 or 1, level a workspace that occurs
                  Σ_c choose[m,c] = 1                                    choose 0 or 1
                  Σ_m,c time[d,m,c] ≤ 1,   time[d,m,c] ≤ hosted[d,m],    0 where c needs more workspace than level[d]
                  Σ_d,c time · speed ≥ T,   Σ_d time[d,m,c] · speed ≤ U · choose[m,c]

Two devices hold so many of a dozen members that patterns (see `program`) cannot be listed; the cells are few.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from math import inf
from typing import Any

from hpcens.allocation.composition import Composition
from hpcens.allocation.menu import Menu, Pattern
from hpcens.allocation.model import Choice
from hpcens.allocation.program import Answer, Columns, Effort, Rows, maximise_first, runs_of

# Less than this part of the throughput is rounding, not an instance.
_NOISE = 1e-7

Cell = tuple[int, int, str]
"""Number of the pool, of its device, and a member."""


def cells(menu: Menu) -> int:
    """Count the choices of members in cells."""
    offers = zip(menu.pools, menu.offers, strict=True)
    return sum(len(pool.devices) * sum(map(len, offer.values())) for pool, offer in offers)


def solve_cells(menu: Menu, *, most: float, least: float, effort: Effort) -> Answer:
    """Find the best composition, as far as the effort goes, and a bound on any.

    Of members with several sizes the least is taken, so the composition may be one that does not fit.

    most   rows/s that are known not to be exceeded
    least  rows/s below which no composition is wanted
    """
    columns, rows = Columns(), Rows()
    throughput = columns.add(1.0)  # in units of `most`
    chosen = {(m, c): columns.add(1, whole=True) for m in menu.members for c in menu.of(m)}
    for member in menu.members:
        rows.add([(chosen[member, c], 1.0) for c in menu.of(member)], 1, 1)
    supply = {m: [(throughput, -1.0)] for m in menu.members}
    capped = {key: [(column, -1.0)] for key, column in chosen.items()}
    placed: dict[str, list[tuple[int, float]]] = {m: [] for m in menu.members}
    cell_times: dict[Cell, list[tuple[int, float]]] = {}
    for i, pool in enumerate(menu.pools):
        offer = menu.offers[i]
        levels = sorted({option.workspace for options in offer.values() for option in options.values()})
        room = menu.room[i] - min((o.context for options in offer.values() for o in options.values()), default=0)
        for d in range(len(pool.devices)):
            # Whether the device's level is at least this one.
            above = {level: columns.add(1, whole=True) for level in levels}
            for lower, upper in pairwise(above.values()):
                rows.add([(upper, 1.0), (lower, -1.0)], -inf, 0)
            rises = (upper - lower for lower, upper in pairwise([0, *levels]))
            used = [(column, rise / room) for column, rise in zip(above.values(), rises, strict=True)]
            times = []
            for member, options in offer.items():
                hosted = columns.add(1, whole=True)
                placed[member].append((hosted, 1.0))
                used.append((hosted, min(o.weights for o in options.values()) / room))
                cell: list[tuple[int, float]] = []
                for choice, option in sorted(options.items(), key=lambda pair: -pair[1].workspace):
                    speed = option.speed / most
                    time = columns.add(min(1.0, 1 / speed))
                    cell.append((time, speed))
                    supply[member].append((time, speed))
                    capped[member, choice].append((time, speed))
                    largest = min(1.0, max(s for _, s in cell))
                    rows.add([*cell, (above[option.workspace], -largest)], -inf, 0)
                rows.add([*cell, (hosted, -largest)], -inf, 0)
                rows.add([*((time, 1.0) for time, _ in cell), (hosted, -1.0)], -inf, 0)
                times += [(time, 1.0) for time, _ in cell]
                cell_times[i, d, member] = cell
            rows.add(used, -inf, 1)
            rows.add(times, -inf, 1)
    for member in menu.members:
        rows.add(supply[member], 0, inf)
        rows.add(placed[member], 1, inf)
    for entries in capped.values():
        rows.add(entries, -inf, 0)
    solved = maximise_first(columns, rows, effort=effort, least=least / most)
    composition = None if solved.values is None else _composition(menu, cell_times, solved.values, chosen)
    return Answer(composition, solved.bound * most, solved.late)


def _composition(
    menu: Menu,
    cell_times: Mapping[Cell, list[tuple[int, float]]],
    values: Any,
    chosen: Mapping[tuple[str, Choice], int],
) -> Composition | None:
    """Read the composition from the program's values; None where a member makes no rows."""
    runs = runs_of(menu, chosen, values)
    hosts: dict[tuple[int, int], list[str]] = {}
    for (pool, device, member), times_of_cell in cell_times.items():
        if sum(values[time] * speed for time, speed in times_of_cell) > _NOISE:
            hosts.setdefault((pool, device), []).append(member)
    counts: dict[tuple[int, Pattern], int] = {}
    for (pool, _), members in hosts.items():
        key = pool, tuple(m for m in menu.members if m in members)
        counts[key] = counts.get(key, 0) + 1
    whole = {member for members in hosts.values() for member in members} >= set(menu.members)
    return Composition(counts, runs) if whole else None
