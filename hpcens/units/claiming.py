"""Claim the next unit for a world: a free one, else one whose world has ended."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from hpcens.units.claims import Attempt, Standing, choose, next_attempt, overdue
from hpcens.units.listing import UnitList


class Claims(Protocol):
    """What is claimed in: `UnitsDirectory`, or its double."""

    def standings(self, units: UnitList, round_id: str | None = None) -> Mapping[str, Standing]:
        """Return unit → how it stands."""

    def claim(self, attempt: Attempt, world: str, round_id: str) -> bool:
        """Claim an attempt; return whether it was this call that did."""

    def claimant(self, attempt: Attempt) -> tuple[str, str]:
        """Return the world and the round that claimed an attempt."""


@dataclass(frozen=True, slots=True)
class Claimed:
    """A unit that a world has claimed.

    taken_over  whether another world's attempt, which has left no word, was before it: what that still writes does
                not count
    deaths      attempts of the same round that ended without a word
    """

    attempt: Attempt
    before: Standing
    taken_over: bool
    deaths: int


def claim_next(
    claims: Claims,
    units: UnitList,
    world: str,
    round_id: str,
    *,
    dead: Callable[[Collection[str]], Collection[str]],
    known_dead: Callable[[Collection[str]], Collection[str]] = lambda names: (),
    predecessors: Collection[str] = (),
    seconds_left: float | None = None,
    speed: float | None = None,
    pace: float = 1.0,
) -> Claimed | None:
    """Claim a unit; None where there is none for this world.

    dead        returns those of some worlds that have ended for certain; asked only where nothing else is left
    known_dead  the same as far as it can be told at once; asked for worlds whose units are overdue
    predecessors  worlds in whose place Slurm has started this one: what they held comes before all else
    seconds_left, speed, pace  see `choose`
    """
    sizes = {unit.key: unit.bytes for unit in units.units}
    fits = partial(choose, sizes, seconds_left=seconds_left, speed=speed, pace=pace)
    lost = True
    while lost:
        standings = claims.standings(units, round_id)
        held = [key for key, standing in standings.items() if standing.state == "held"]
        own = predecessors and _claim_held(claims, held, standings, world, round_id, lambda _: predecessors, fits)
        if own:
            return own
        free = {key for key, standing in standings.items() if standing.state == "free"}
        late = overdue(sizes, free, held)
        if late and (claimed := _claim_held(claims, late, standings, world, round_id, known_dead, fits)):
            return claimed
        order = fits(free)
        for key in order:
            if claimed := _claim(claims, key, standings[key], world, round_id, taken_over=False):
                return claimed
        lost = bool(order)  # to other worlds: what is left may have changed
    return _claim_held(claims, held, standings, world, round_id, dead, fits)


def _claim_held(
    claims: Claims,
    held: Collection[str],
    standings: Mapping[str, Standing],
    world: str,
    round_id: str,
    dead: Callable[[Collection[str]], Collection[str]],
    fits: Callable[[Collection[str]], list[str]],
) -> Claimed | None:
    """Claim one of the units whose world has ended. fits: orders units, and leaves out what is not for this world."""
    by = {key: claims.claimant(last)[0] for key in held if (last := standings[key].last) is not None}
    others = {name for name in by.values() if name != world}
    ended = set(dead(others)) if others else set()
    for key in fits([key for key, name in by.items() if name in ended]):
        if claimed := _claim(claims, key, standings[key], world, round_id, taken_over=True):
            return claimed
    return None


def _claim(
    claims: Claims, key: str, standing: Standing, world: str, round_id: str, *, taken_over: bool
) -> Claimed | None:
    attempt = next_attempt(key, standing, dead=taken_over)
    if attempt is None or not claims.claim(attempt, world, round_id):
        return None
    silent = [other for other in standing.attempts if other.kind is None]
    deaths = sum(claims.claimant(other)[1] == round_id for other in silent)
    return Claimed(attempt, standing, bool(silent), deaths)
