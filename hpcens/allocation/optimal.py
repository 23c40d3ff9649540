"""The optimal planner: the best division of device time, a placement that reaches it, and a proof of how near it is.

1. The members' times under the linear program over pools are laid out (see `layout`): all members on
   every device, or wrapped around. Where memory is loose this reaches the bound, and nothing else is tried.
2. Where the patterns of members that a device can hold are few, the integer program over all of them
   finds the best composition and proves it.
3. Else each member goes to one device and the loads are levelled (see `partition`), layouts are tried
   under falling ceilings on the workspaces, both are climbed from, and the best is planned anew part by
   part (see `regions`). How far that is from what is possible is proved by generated patterns (see
   `generation`), and on very few devices by an integer program over cells.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from hpcens.allocation.bound import Bound, Pool, memory_limit, pools, upper_bound
from hpcens.allocation.cells import cells, solve_cells
from hpcens.allocation.choice import ceilings, choose, rates
from hpcens.allocation.climb import climb
from hpcens.allocation.composition import Composition, holds, of_devices, place_counts, sharing_of
from hpcens.allocation.generation import generate
from hpcens.allocation.greedy import place_greedy
from hpcens.allocation.layout import lay
from hpcens.allocation.menu import Menu, make_menu
from hpcens.allocation.model import Choice, Placement
from hpcens.allocation.packing import place_packed
from hpcens.allocation.partition import partition
from hpcens.allocation.patterns import all_patterns
from hpcens.allocation.problem import Problem
from hpcens.allocation.program import Answer, Effort, solve
from hpcens.allocation.regions import replan
from hpcens.allocation.worst_fit import place_worst_fit
from hpcens.errors import UsageError

# This near to the bound, nothing else is tried.
_NEAR = 1 - 1e-6
# This near to it, no more seconds are spent.
_CLOSE = 1 - 5e-3
# Choices of members in patterns that the integer program is given at most.
_PROGRAM_SIZE = 8000
# Choices of members in cells, beyond which the program over them says little; what it may take, and that over patterns.
_CELLS = 280
_CELLS_NODES = 4000
_NODES = 1000
# Parts of the time that one integer program may take at most, all regions, and the generation of patterns.
_PROGRAM_PART = 0.4
_REGIONS_PART = 0.5
_GENERATION_PART = 0.45
_LEAST_SECONDS = 0.01
# Levelled partitions tried, each from another seed, and those of them that are improved.
_PARTITIONS = 6
_KEPT = 2
# Levelling looks at every device for every member.
_FEW_DEVICES = 200


@dataclass(slots=True)
class _Search:
    """The best composition so far, and the least bound."""

    menu: Menu
    bound: float
    passing: float
    seconds: float
    end: float
    best: Composition | None = None
    reached: float = 0.0
    late: bool = False

    def offer(self, composition: Composition | None) -> None:
        """Keep a composition that fits if it is the fastest so far."""
        if composition is None or not holds(self.menu, composition):
            return
        throughput = sharing_of(self.menu, composition).throughput
        if throughput > self.reached:
            self.best, self.reached = composition, throughput

    def take(self, answer: Answer, *, proves: bool) -> None:
        """Offer an answer's composition; and its bound, where it proves one."""
        self.offer(answer.composition)
        self.late = self.late or answer.late
        if proves:
            self.bound = min(self.bound, max(answer.bound, self.reached))

    def left(self, part: float) -> float:
        """Return the seconds of this part of the time, as far as there are any."""
        return max(_LEAST_SECONDS, min(part * self.seconds, self.end - time.monotonic()))

    def effort(self, nodes: int) -> Effort:
        """Return what an integer program of so many nodes may take of the time that is left."""
        return Effort(nodes, self.left(_PROGRAM_PART))

    def within(self, part: float) -> bool:
        """Tell whether the best reaches this part of the bound, or of what readers and reducers pass."""
        return self.reached >= part * min(self.bound, self.passing)


def place_optimal(problem: Problem, *, thorough: bool = True) -> Placement:
    """Find the placement of most throughput, and prove how near it is. Raises UsageError where none fits.

    thorough  False: lay out, level and climb alone, for placements that are only compared
    """
    bound = upper_bound(problem)
    all_pools = pools(problem)
    end = time.monotonic() + problem.seconds
    search = _Search(make_menu(problem, all_pools), bound.sharing.bound, problem.passing, problem.seconds, end)
    forced = _lay_out(problem, search, bound)
    if thorough and not search.within(_NEAR):
        _improve(problem, search, bound)
    elif search.best is None:
        for start in _starts(problem, search, _needs(search.menu, bound), partitions=1):
            search.offer(climb(search.menu, start, search.bound * _CLOSE)[0])
    if search.best is None:
        return place_packed(problem) or place_worst_fit(problem)  # raises, naming a member that finds no room
    placement = place_counts(search.menu, search.best, "" if search.within(_NEAR) else forced)
    return replace(placement, proven=search.bound, late=search.late)


def _improve(problem: Problem, search: _Search, bound: Bound) -> None:
    menu = search.menu
    patterns = all_patterns(menu, _PROGRAM_SIZE)
    if patterns is not None:
        answer = solve(menu, patterns, most=search.bound, effort=search.effort(_NODES))
        search.take(answer, proves=menu.exact)
    if not menu.exact:
        _search_runtimes(search)
    if not search.within(_CLOSE):
        for start in list(_starts(problem, search, _needs(menu, bound))):
            search.offer(climb(menu, start, search.bound * _CLOSE)[0])
    if search.within(_CLOSE):
        return
    largest = make_menu(problem, menu.pools, largest=True)
    _prove(search, largest, bound.sharing.worth)
    if patterns is None and cells(menu) <= _CELLS and not search.within(_CLOSE):
        effort = search.effort(_CELLS_NODES)
        search.take(solve_cells(largest, most=search.bound, least=search.reached, effort=effort), proves=True)
    if search.best and not search.within(_CLOSE):
        seconds = search.left(_REGIONS_PART)
        replanned, late = replan(menu, search.best, most=search.bound, enough=search.bound * _CLOSE, seconds=seconds)
        search.offer(climb(menu, replanned, search.bound * _CLOSE)[0])
        search.late = search.late or late


def _prove(search: _Search, largest: Menu, worth: Mapping[str, float]) -> None:
    """Lower the bound by what is known of memory; the menu is that of the largest devices of each pool."""
    counts = search.best.counts if search.best else ()
    end = time.monotonic() + search.left(_GENERATION_PART)
    proven = generate(largest, counts, worth=worth, most=search.bound, enough=search.reached / _CLOSE, end=end)
    search.bound = max(search.reached, proven.bound)
    search.late = search.late or proven.late


def _search_runtimes(search: _Search) -> None:
    """Offer what the integer program finds with all members in one runtime.

    It takes a member for as large as it is in the largest, which may hide what fits.
    """
    menu = search.menu
    runtimes = dict.fromkeys(choice.runtime for m in menu.members for choice in menu.of(m))
    for runtime in runtimes if len(runtimes) > 1 else ():
        restricted = menu.in_runtime(runtime)
        if (patterns := all_patterns(restricted, _PROGRAM_SIZE)) is not None:
            search.take(solve(restricted, patterns, most=search.bound, effort=search.effort(_NODES)), proves=False)


def _needs(menu: Menu, bound: Bound) -> dict[str, float]:
    """Return of each member the devices' worth of time that it takes at best."""
    return {m: sum(times.get(m, 0.0) for times in bound.sharing.times) for m in menu.members}


def _starts(
    problem: Problem, search: _Search, needs: Mapping[str, float], partitions: int = _PARTITIONS
) -> Iterator[Composition]:
    if search.best:
        yield search.best
    devices = len(problem.devices)
    levelled = False
    if devices <= _FEW_DEVICES and devices <= 2 * len(problem.members):
        tried = (partition(search.menu, needs, seed=seed) for seed in range(partitions))
        fitting = [composition for composition in tried if composition and holds(search.menu, composition)]
        levelled = bool(fitting)
        yield from sorted(fitting, key=lambda composition: -sharing_of(search.menu, composition).throughput)[:_KEPT]
    if search.best is None and not levelled:
        placed = _greedy(problem) or place_packed(problem)
        if placed and holds(search.menu, of_devices(search.menu, placed)):
            yield of_devices(search.menu, placed)


def _greedy(problem: Problem) -> Placement | None:
    try:
        return place_greedy(problem)
    except UsageError:
        return None


def _lay_out(problem: Problem, search: _Search, bound: Bound) -> str:
    """Offer replicated or wrapped layouts, under falling ceilings on the workspaces until all of one fits.

    Return the memory that forced a ceiling below the first, as a phrase.
    """
    menu, forced = search.menu, ""
    for ceiling in ceilings(menu):
        rated = rates(menu, ceiling)
        if not all(rated.values()):
            break
        runs, sharing = choose(menu.pools, rated, bound.sharing)
        if sharing.throughput <= search.reached:
            break
        composition, full = _laid(problem, menu, sharing.times, runs, problem.rows / sharing.throughput)
        search.offer(_trimmed(menu, composition) if full else composition)
        if full is None:
            break
        forced = forced or memory_limit(full.devices[0])
    return forced


def _laid(
    problem: Problem,
    menu: Menu,
    times: tuple[Mapping[str, float], ...],
    runs: Mapping[str, Choice],
    run_seconds: float,
) -> tuple[Composition, Pool | None]:
    """Lay out every pool; return also the pool whose memory that exceeds the most, if any."""
    counts: dict[tuple[int, tuple[str, ...]], int] = {}
    order = {m: i for i, m in enumerate(menu.members)}
    full, most = None, 0.0
    # Where a reader could not send each row to many devices, those that host all members are worth their loading.
    throughput = problem.rows / run_seconds if run_seconds else 0.0
    dear = throughput * len(menu.members) > problem.beside + problem.readers * problem.sending
    for i, pool in enumerate(menu.pools):
        load = {m: problem.profiles[pool.kind, m, runs[m].runtime].load_seconds * (not dear) for m in times[i]}
        layout, excess = lay(menu, i, times[i], runs, load_seconds=load, run_seconds=run_seconds)
        for pattern, count in layout:
            key = i, tuple(sorted(pattern, key=order.__getitem__))
            counts[key] = counts.get(key, 0) + count
        if excess > most:
            full, most = pool, excess
    return Composition(counts, runs), full


def _trimmed(menu: Menu, composition: Composition) -> Composition | None:
    """Remove the instances that exceed the memory, the largest first; None where a member would have no other."""
    hosts = dict.fromkeys(menu.members, 0)
    for (_, pattern), count in composition.counts.items():
        for member in pattern:
            hosts[member] += count
    counts: dict[tuple[int, tuple[str, ...]], int] = {}
    for (pool, pattern), count in composition.counts.items():
        members = list(pattern)
        while members and menu.spare(pool, members, composition.runs) < 0:
            spare = [m for m in members if hosts[m] > count]
            if not spare:
                return None
            out = min(spare, key=lambda m: menu.spare(pool, (m,), composition.runs))
            members.remove(out)
            hosts[out] -= count
        if members:
            counts[pool, tuple(members)] = counts.get((pool, tuple(members)), 0) + count
    return Composition(counts, composition.runs)
