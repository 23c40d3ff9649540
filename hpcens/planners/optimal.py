"""The optimal planner: the best division of device time, then a placement that reaches it.

Placements, in the order tried; the first two reach the throughput of the linear program:

1. replicated: every member of a kind on all its devices. Any device can then take any work, so a
   slow one never stalls a member, and a row travels to one device only. Wanted where loading is cheap.
2. wrapped (McNaughton's wrap-around): the members' times laid end to end over the devices. Only
   members at a border share a device, so it needs the least memory and loading.
3. either, with smaller batches for the members that fill the memory.
4. the bounded greedy, where it is better than 3 or where nothing else fits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from hpcens.errors import UsageError
from hpcens.planners.bound import Pool, memory_limit, pools, speed_alone, upper_bound
from hpcens.planners.greedy import greedy
from hpcens.planners.layout import Full, lay, workspace
from hpcens.planners.model import Choice, Placement, best_shares, choices, place, speed
from hpcens.planners.problem import Problem
from hpcens.planners.sharing import Group, Sharing, share

# Relative gain below which one choice is no better than another.
_GAIN = 1e-9
# This near to the bound, nothing else is tried.
_NEAR = 1e-6

# member → what may be chosen for it → its rows/s on each pool, 0 where it does not fit alone
_Rates = Mapping[str, Mapping[Choice, tuple[float, ...]]]


def optimal(problem: Problem) -> Placement:
    """The placement of most throughput among those above. Raises UsageError where nothing fits."""
    bound = upper_bound(problem)
    found = pools(problem)
    rates = {
        m: {
            c: rate
            for c in choices(problem, m)
            if any(rate := tuple(speed_alone(problem, pool.kind, pool.most, m, c) for pool in found))
        }
        for m in problem.members
    }
    best, forced = _placed(problem, found, rates, _jointly(found, rates, bound.sharing))
    reached = best_shares(problem, best)[0] if best else 0.0
    if best and reached >= bound.rows_per_second * (1 - _NEAR):
        return best
    try:
        other = greedy(problem)
    except UsageError:
        if best is None:
            raise
        other = best
    if best is None or best_shares(problem, other)[0] > reached:
        best = other
    return replace(best, forced=forced)


def _groups(found: Sequence[Pool], rates: _Rates, runs: Mapping[str, Choice]) -> list[Group]:
    return [
        Group(len(pool.devices), {m: rates[m][c][i] for m, c in runs.items() if rates[m][c][i] > 0})
        for i, pool in enumerate(found)
    ]


def _jointly(found: Sequence[Pool], rates: _Rates, sharing: Sharing) -> dict[str, Choice]:
    """One batch size and runtime per member over all kinds, by coordinate improvement.

    The linear program prices the time of a device (rent) and a row of a member (worth). Another
    choice for one member can raise the throughput only if on some kind its rows are worth more than
    the rent of the time they take; such choices are solved, and kept where they help, until there
    are none. Over one kind the start is already the best; over several, no change of one member's
    choice improves the result, though a change of two at once still might.
    """
    members = tuple(rates)
    rents = [rent or 1.0 for rent in sharing.rents]

    def yields(rate: tuple[float, ...]) -> tuple[float, float]:
        per_rent = [rows / rent for rows, rent in zip(rate, rents, strict=True)]
        return max(per_rent), sum(per_rent)

    runs = {m: max(of, key=lambda c: yields(of[c])) for m, of in rates.items()}
    best = share(members, _groups(found, rates, runs))
    improved = len(found) > 1
    while improved:
        improved = False
        for member in members:
            for choice in _promising(rates[member], best, best.worth[member]):
                trial = runs | {member: choice}
                sharing = share(members, _groups(found, rates, trial))
                if sharing.throughput > best.throughput * (1 + _GAIN):
                    runs, best, improved = trial, sharing, True
                    break
    return runs


def _promising(rates: Mapping[Choice, tuple[float, ...]], sharing: Sharing, worth: float) -> list[Choice]:
    """Choices whose rows are worth more than the rent of their time on some kind, the best first."""

    def surplus(choice: Choice) -> float:
        pairs = zip(rates[choice], sharing.rents, strict=True)
        return max(worth * rows - rent * (1 + _GAIN) for rows, rent in pairs)

    return sorted((choice for choice in rates if surplus(choice) > 0), key=surplus, reverse=True)


def _placed(
    problem: Problem, found: Sequence[Pool], rates: _Rates, runs: Mapping[str, Choice]
) -> tuple[Placement | None, str]:
    """The first placement that fits, with batches reduced until one does; and the memory that forced it."""
    forced = ""
    while True:
        sharing = share(problem.members, _groups(found, rates, runs))
        hosted: dict[str, tuple[str, ...]] = {}
        full: Full | None = None
        for pool, times in zip(found, sharing.times, strict=True):
            laid = lay(problem, pool, times, runs, sharing.throughput)
            if isinstance(laid, Full):
                full = laid
                break
            hosted |= {device.name: members for device, members in zip(pool.devices, laid, strict=True)}
        if full is None:
            return place(problem, hosted, runs), forced
        forced = memory_limit(full.device)
        smaller = _smaller(problem, full, rates, runs)
        if smaller is None:
            return None, forced
        runs = {**runs, **smaller}


def _smaller(problem: Problem, full: Full, rates: _Rates, runs: Mapping[str, Choice]) -> dict[str, Choice] | None:
    """For the member whose workspace is the largest on the full device: the fastest choice of a smaller
    batch with less workspace there; None where it has none, since no other member's would help."""
    kind = full.device.kind
    member = max(full.members, key=lambda m: workspace(problem, kind, m, runs[m]))
    less = [
        choice
        for choice in rates[member]
        if choice.batch < runs[member].batch
        and speed(problem, kind, member, choice) > 0
        and workspace(problem, kind, member, choice) < workspace(problem, kind, member, runs[member])
    ]
    return {member: max(less, key=lambda c: speed(problem, kind, member, c))} if less else None
