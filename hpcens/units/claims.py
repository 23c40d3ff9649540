"""Decide which unit a world claims next, from the names in a folder; pure.

An attempt at a unit is a folder that appears whole, `UNIT.0001`, and what came of it a file beside it that is made
once, `UNIT.0001.done`. So one listing tells how all units stand, and two rules keep worlds out of each other's way:
of several that make the same name one succeeds, and the number after an attempt is taken only where that attempt has
ended, or its world has.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from hpcens.errors import COMPLETE, FAILURE, INCOMPLETE

Kind = Literal["done", "failed", "left"]
State = Literal["done", "failed", "held", "free"]

_NAME = re.compile(r"([0-9a-f]{16})\.(\d{4,})(?:\.(done|failed|left))?")
# So many worlds may end without a word while they work on a unit before it is taken for what ends them.
MOST_DEATHS = 3
# Below this share of the expected pace a world is slow.
_SLOW_PACE = 0.8
# So many times as large as the largest free unit is one that was claimed long ago.
_OVERDUE = 1.5


@dataclass(frozen=True, slots=True)
class Attempt:
    """One world's attempt at a unit.

    number   from 1
    kind     of what came of it: done; failed, not to be tried again in its round; or left, to be gone on with.
             None while it goes on
    """

    unit: str
    number: int
    kind: Kind | None = None

    @property
    def name(self) -> str:
        """Its folder's name."""
        return f"{self.unit}.{self.number:04d}"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of an attempt.

    code     exit code
    rows     scored by it
    seconds  that it took
    """

    code: int
    reason: str
    rows: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Standing:
    """How a unit stands.

    state     held: its last attempt goes on, as far as is known
    attempts  at it, the oldest first
    """

    state: State
    attempts: tuple[Attempt, ...] = ()

    @property
    def last(self) -> Attempt | None:
        """The newest attempt, None where there is none."""
        return self.attempts[-1] if self.attempts else None


def attempts_of(names: Iterable[str]) -> dict[str, tuple[Attempt, ...]]:
    """Return unit → its attempts, the oldest first, from the names in the folder of claims; others are left out."""
    kinds: dict[tuple[str, int], Kind | None] = {}
    for name in names:
        if match := _NAME.fullmatch(name):
            unit, number, kind = match.groups()
            place = unit, int(number)
            kinds[place] = kind or kinds.get(place)  # type: ignore[assignment]
    found: dict[str, list[Attempt]] = {}
    for (unit, number), kind in sorted(kinds.items()):
        found.setdefault(unit, []).append(Attempt(unit, number, kind))
    return {unit: tuple(attempts) for unit, attempts in found.items()}


def standing_of(attempts: Sequence[Attempt], failed: Collection[str] | None = None) -> Standing:
    """Return how a unit stands.

    failed  names of failed attempts that count: those of one's own round. None: that of the last alone
    """
    every = tuple(attempts)
    if any(attempt.kind == "done" for attempt in every):
        return Standing("done", every)
    if every and every[-1].kind is None:
        return Standing("held", every)
    counting = [attempt.name for attempt in every if attempt.kind == "failed"]
    final = bool(every) and every[-1].kind == "failed" if failed is None else not set(failed).isdisjoint(counting)
    return Standing("failed" if final else "free", every)


def next_attempt(unit: str, standing: Standing, *, dead: bool = False) -> Attempt | None:
    """Return the attempt that may be claimed at a unit; None where none may.

    dead  whether the world of its last attempt, which goes on as far as is known, has ended
    """
    last = standing.last
    if standing.state == "free" or (standing.state == "held" and dead):
        return Attempt(unit, last.number + 1 if last else 1)
    return None


def kind_of(code: int, crashes: int) -> Kind:
    """Return the kind of what came of an attempt that ended with this code.

    crashes  attempts of the same round at the same unit before this one that ended with a failure of nobody's: it may
             pass, once
    """
    if code == COMPLETE:
        return "done"
    if code == INCOMPLETE:
        return "left"
    return "left" if code == FAILURE and not crashes else "failed"


def choose(
    sizes: Mapping[str, int],
    free: Collection[str],
    *,
    seconds_left: float | None,
    speed: float | None,
    pace: float = 1.0,
) -> list[str]:
    """Return the units that a world may claim, in the order in which it tries them: the largest that fit first.

    sizes         unit → bytes, in falling order
    free          units that may be claimed
    seconds_left  until the world is to end; None: it has no limit
    speed         bytes/s, as far as known; None: anything may fit, and what does not is left to go on with
    pace          of the world, of that which the plan expects: a slower one begins with what takes it no longer than
                  the largest takes others, so that nobody waits for it at the end
    """
    if seconds_left is not None and seconds_left <= 0:
        return []
    most = None if seconds_left is None or speed is None else seconds_left * speed
    order = [unit for unit, size in sizes.items() if unit in free and (most is None or size <= most)]
    if pace >= _SLOW_PACE or not order:
        return order
    first = next((n for n, unit in enumerate(order) if sizes[unit] <= pace * sizes[order[0]]), len(order))
    return order[first:] + order[:first][::-1]


def overdue(sizes: Mapping[str, int], free: Collection[str], held: Collection[str]) -> list[str]:
    """Return held units so much larger than what is free that a world which lives would have done them by now.

    Of worlds that claim the largest first, those are the units of slow worlds, and of dead ones.
    """
    largest = max((sizes[unit] for unit in free), default=0)
    return [unit for unit in held if sizes[unit] > _OVERDUE * largest > 0]
