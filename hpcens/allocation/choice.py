"""One batch size and one runtime per member, chosen jointly over the kinds of devices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hpcens.allocation.bound import Pool
from hpcens.allocation.menu import Menu
from hpcens.allocation.model import Choice
from hpcens.allocation.sharing import Group, Sharing, share

# Relative gain below which one choice is no better than another.
_GAIN = 1e-9
# How many ceilings are tried, besides none.
_CEILINGS = 8

# member → what may be chosen for it → its rows/s on each pool, 0 where it may not run
Rates = Mapping[str, Mapping[Choice, tuple[float, ...]]]


def rates(menu: Menu, ceiling: float = 1.0) -> Rates:
    """Return the rows/s of every choice on each pool, where its workspace takes up to `ceiling` of the room."""

    def rate(pool: int, member: str, choice: Choice) -> float:
        option = menu.offers[pool].get(member, {}).get(choice)
        return option.speed if option and option.workspace <= ceiling * menu.room[pool] else 0.0

    numbers = range(len(menu.pools))
    every = {m: {c: tuple(rate(pool, m, c) for pool in numbers) for c in menu.of(m)} for m in menu.members}
    return {m: {c: by_pool for c, by_pool in by_choice.items() if any(by_pool)} for m, by_choice in every.items()}


def ceilings(menu: Menu) -> list[float]:
    """Return parts of a device's room by which to limit workspaces, from no limit down to the smallest that occurs."""
    parts = {
        option.workspace / menu.room[pool]
        for pool, offer in enumerate(menu.offers)
        for options in offer.values()
        for option in options.values()
    }
    falling = sorted(parts, reverse=True)
    return [1.0, *falling[1 :: len(falling) // _CEILINGS + 1], falling[-1]]


def groups(pools: Sequence[Pool], rated: Rates, runs: Mapping[str, Choice]) -> list[Group]:
    """Return the pools as groups of the linear program, with every member run as chosen."""
    return [
        Group(len(pool.devices), {m: rated[m][c][i] for m, c in runs.items() if rated[m][c][i] > 0})
        for i, pool in enumerate(pools)
    ]


def choose(pools: Sequence[Pool], rated: Rates, prices: Sharing) -> tuple[dict[str, Choice], Sharing]:
    """Choose how every member runs, and share the pools under that, by coordinate improvement.

    The linear program prices the time of a device (rent) and a row of a member (worth); the start
    is what yields most for the rents of `prices`. Another choice for one member can raise the
    throughput only if on some kind its rows are worth more than the rent of the time they take;
    such choices are solved, and kept where they help, until there are none. Over one kind the start
    is already the best. Over several, no change of one member's choice improves the result, though
    a change of two at once still might.
    """
    members = tuple(rated)
    rents = [rent or 1.0 for rent in prices.rents]

    def yields(rate: tuple[float, ...]) -> tuple[float, float]:
        per_rent = [rows / rent for rows, rent in zip(rate, rents, strict=True)]
        return max(per_rent), sum(per_rent)

    runs = {m: max(by_choice, key=lambda c: yields(by_choice[c])) for m, by_choice in rated.items()}
    best = share(members, groups(pools, rated, runs))
    improved = len(pools) > 1
    while improved:
        improved = False
        for member in members:
            for choice in _promising(rated[member], best, best.worth[member]):
                trial = runs | {member: choice}
                sharing = share(members, groups(pools, rated, trial))
                if sharing.throughput > best.throughput * (1 + _GAIN):
                    runs, best, improved = trial, sharing, True
                    break
    return runs, best


def _promising(rated: Mapping[Choice, tuple[float, ...]], prices: Sharing, worth: float) -> list[Choice]:
    """Return the choices whose rows are worth more than the rent of their time on some kind, the best first."""

    def surplus(choice: Choice) -> float:
        pairs = zip(rated[choice], prices.rents, strict=True)
        return max(worth * rows - rent * (1 + _GAIN) for rows, rent in pairs)

    return sorted((choice for choice in rated if surplus(choice) > 0), key=surplus, reverse=True)
