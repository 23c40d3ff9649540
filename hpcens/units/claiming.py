"""Claim the next unit for a world: a free one, else one whose world has ended."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Protocol

from hpcens.units.claims import Attempt, Standing, choose, next_attempt
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
    seconds_left: float | None = None,
    speed: float | None = None,
) -> Claimed | None:
    """Claim a unit; None where there is none for this world.

    dead  returns those of some worlds that have ended for certain; asked only where nothing else is left
    seconds_left, speed  see `choose`
    """
    sizes = {unit.key: unit.bytes for unit in units.units}
    lost = True
    while lost:
        standings = claims.standings(units, round_id)
        free = {key for key, standing in standings.items() if standing.state == "free"}
        order = choose(sizes, free, seconds_left=seconds_left, speed=speed)
        for key in order:
            if claimed := _claim(claims, key, standings[key], world, round_id, taken_over=False):
                return claimed
        lost = bool(order)  # to other worlds: what is left may have changed
    held = {
        key: claims.claimant(standing.last)[0]
        for key, standing in standings.items()
        if standing.state == "held" and standing.last is not None
    }
    ended = set(dead({name for name in held.values() if name != world})) if held else set()
    order = choose(sizes, {key for key, name in held.items() if name in ended}, seconds_left=seconds_left, speed=speed)
    for key in order:
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
