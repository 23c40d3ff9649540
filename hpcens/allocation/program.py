"""The integer program over patterns: how many devices host which members, in which batches, for most throughput.

    max T   s.t.  Σ_p count[p] ≤ devices of its pool          count[p] integer
                  Σ_c choose[m,c] = 1                         choose[m,c] 0 or 1
                  Σ_m,c time[p,m,c] ≤ count[p]
                  Σ_p,c time[p,m,c] · speed ≥ T
                  Σ_p   time[p,m,c] · speed ≤ U · choose[m,c]

A pattern leaves its device some memory, and any choice whose workspace fits that may run there, so
that batch sizes and runtimes are chosen by the same program. U is a bound known before: no member
need make more rows, and no instance more than one device's part of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any

from hpcens.allocation.composition import Composition
from hpcens.allocation.menu import Menu, Pattern
from hpcens.allocation.model import Choice

# HiGHS takes a row for satisfied at a part in a million too much, and that much is added to what it proves.
_TOLERANCE = 1e-6


@dataclass(frozen=True, slots=True)
class Answer:
    """What the solver found: a composition, or None; and the rows/s that none exceeds.

    late  whether the time was up before the nodes were
    """

    composition: Composition | None
    bound: float
    late: bool


@dataclass(frozen=True, slots=True)
class Effort:
    """What one program may take.

    nodes    of its search: the same on every machine
    seconds  that keep a slow machine from taking for ever
    """

    nodes: int
    seconds: float


class Rows:
    """A matrix of constraints, row by row."""

    def __init__(self) -> None:
        self._entries: tuple[list[int], list[int], list[float]] = ([], [], [])
        self._least: list[float] = []
        self._most: list[float] = []

    def add(self, entries: Sequence[tuple[int, float]], least: float, most: float) -> None:
        """Add the constraint least ≤ Σ value · unknown ≤ most. entries: (number of the unknown, value)."""
        rows, columns, values = self._entries
        for column, value in entries:
            rows.append(len(self._least))
            columns.append(column)
            values.append(value)
        self._least.append(least)
        self._most.append(most)

    def constraint(self, columns: int) -> Any:
        """Return all rows as scipy takes them, over `columns` unknowns."""
        from scipy.optimize import LinearConstraint
        from scipy.sparse import csr_array

        at_rows, at_columns, values = self._entries
        matrix = csr_array((values, (at_rows, at_columns)), shape=(len(self._least), columns))
        return LinearConstraint(matrix, self._least, self._most)


class Columns:
    """The unknowns, each between 0 and a most, some whole."""

    def __init__(self) -> None:
        self.most: list[float] = []
        self.whole: list[int] = []

    def add(self, most: float, *, whole: bool = False) -> int:
        """Add an unknown from 0 to `most`, a whole number where `whole` is set, and return its number."""
        self.most.append(most)
        self.whole.append(int(whole))
        return len(self.most) - 1


@dataclass(frozen=True, slots=True)
class Solved:
    """What HiGHS says of a program.

    values  of all unknowns; None where none were found
    bound   the proven most of its first unknown
    late    the time was up before the nodes were, so that a faster machine may say more
    """

    values: Any
    bound: float
    late: bool


def maximise_first(columns: Columns, rows: Rows, *, effort: Effort, gap: float = 1e-3, least: float = 0.0) -> Solved:
    """Maximise the first unknown; its bound is at least `least`, below which no answer is wanted.

    rows  the constraints
    gap   part of the optimum by which an answer may miss it
    """
    import numpy as np
    from scipy.optimize import Bounds, milp

    count = len(columns.most)
    answer = milp(
        np.r_[-1.0, np.zeros(count - 1)],
        constraints=rows.constraint(count),
        integrality=np.array(columns.whole),
        bounds=Bounds(np.r_[min(least, columns.most[0]), np.zeros(count - 1)], np.array(columns.most)),
        options={"time_limit": effort.seconds, "node_limit": effort.nodes, "mip_rel_gap": gap},
    )
    late = "Time limit" in answer.message
    if answer.status == 2:
        return Solved(None, least + _TOLERANCE, late)
    bound = columns.most[0] if answer.mip_dual_bound is None else -answer.mip_dual_bound
    if not any(columns.whole) and answer.status == 0:
        bound = -answer.fun
    return Solved(answer.x, max(least, min(columns.most[0], bound)) + _TOLERANCE, late)


def solve(
    menu: Menu,
    patterns: Sequence[Sequence[Pattern]],
    *,
    most: float,
    effort: Effort,
    least: float = 0.0,
    kept: Mapping[tuple[int, Pattern], int] | None = None,
) -> Answer:
    """Find the best composition of these patterns, as far as the effort goes.

    patterns  patterns of each pool
    most      rows/s that are known not to be exceeded
    least     rows/s below which no composition is wanted
    kept      (number of the pool, pattern) to how many devices host it at least
    """
    columns, rows = Columns(), Rows()
    throughput = columns.add(1.0)  # in units of `most`
    chosen = {(m, c): columns.add(1, whole=True) for m in menu.members for c in menu.of(m)}
    supply = {m: [(throughput, -1.0)] for m in menu.members}
    capped = {key: [(column, -1.0)] for key, column in chosen.items()}
    for member in menu.members:
        rows.add([(chosen[member, c], 1.0) for c in menu.of(member)], 1, 1)
    counted: dict[int, tuple[int, Pattern]] = {}
    for i, pool in enumerate(menu.pools):
        counts = []
        for pattern in patterns[i]:
            count = columns.add(len(pool.devices), whole=True)
            counted[count] = i, pattern
            counts.append((count, 1.0))
            if kept and (i, pattern) in kept:
                rows.add([(count, 1.0)], kept[i, pattern], inf)
            times = []
            for member in pattern:
                instance_times = []
                for choice in allowed(menu, i, pattern, member):
                    speed = menu.offers[i][member][choice].speed / most
                    time = columns.add(len(pool.devices))
                    times.append((time, 1.0))
                    instance_times.append((time, speed))
                    supply[member].append((time, speed))
                    capped[member, choice].append((time, speed))
                if any(speed > 1 for _, speed in instance_times):
                    rows.add([*instance_times, (count, -1.0)], -inf, 0)
            rows.add([*times, (count, -1.0)], -inf, 0)
        if counts:
            rows.add(counts, 0, len(pool.devices))
    for entries in supply.values():
        rows.add(entries, 0, inf)
    for entries in capped.values():
        rows.add(entries, -inf, 0)
    solved = maximise_first(columns, rows, effort=effort, least=least / most)
    if solved.values is None:
        return Answer(None, solved.bound * most, solved.late)
    runs = runs_of(menu, chosen, solved.values)
    return Answer(_composition(menu, counted, solved.values, runs), solved.bound * most, solved.late)


def runs_of(menu: Menu, chosen: Mapping[tuple[str, Choice], int], values: Any) -> dict[str, Choice]:
    """Return how each member runs, by the unknowns that choose it."""
    return {m: max(menu.of(m), key=lambda c: float(values[chosen[m, c]])) for m in menu.members}


def allowed(menu: Menu, pool: int, pattern: Pattern, member: str) -> list[Choice]:
    """Return how a member may run on a device of the pool that hosts the pattern: what leaves the others their room."""
    spare = left(menu, pool, pattern)
    return [c for c, option in menu.offers[pool].get(member, {}).items() if option.workspace <= spare]


def left(menu: Menu, pool: int, pattern: Pattern) -> float:
    """Return the bytes for the largest workspace on a device of the pool that hosts the pattern."""
    offer = menu.offers[pool]
    context = max((o.context for m in pattern for o in offer[m].values()), default=0)
    return menu.room[pool] - context - sum(max(o.weights for o in offer[m].values()) for m in pattern)


def _composition(
    menu: Menu, counted: Mapping[int, tuple[int, Pattern]], values: Any, runs: Mapping[str, Choice]
) -> Composition | None:
    """Read the composition from the program's values, without members that cannot run as chosen where they are.

    None where one is nowhere.
    """
    counts: dict[tuple[int, Pattern], int] = {}
    for column, (pool, pattern) in counted.items():
        devices = round(values[column])
        running = tuple(m for m in pattern if runs[m] in allowed(menu, pool, pattern, m))
        if devices and running:
            counts[pool, running] = counts.get((pool, running), 0) + devices
    hosted = {member for _, pattern in counts for member in pattern}
    return Composition(counts, runs) if hosted >= set(menu.members) else None
