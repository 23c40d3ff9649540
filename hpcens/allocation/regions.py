"""Regions: a few devices of a composition are planned anew by the integer program, the others left as they are.

Only what hosts members that the throughput hangs on can raise it, so each region starts from one of
those; the rest is drawn, the same every time, until its patterns are as many as are quickly solved.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from random import Random

from hpcens.allocation.composition import Composition, Counts, holds, idle, sharing_of
from hpcens.allocation.menu import Menu, Pattern
from hpcens.allocation.patterns import all_patterns
from hpcens.allocation.program import Effort, solve
from hpcens.allocation.sharing import Sharing

# Choices of members in a region's patterns at most; and in those of all regions that are tried, with what is left
# as it is: half a second to a second for a thousand.
_SIZE = 250
_BUDGET = 9_000
# Regions are not tried in compositions of more patterns, whose linear program takes too long.
_PATTERNS = 400
_GAIN = 1e-5
_NODES = 5

Key = tuple[int, Pattern]


@dataclass(frozen=True, slots=True)
class _Region:
    """What the integer program is given: ways to run its members alone, patterns, and the devices that keep theirs."""

    menu: Menu
    patterns: list[list[Pattern]]
    kept: Counts
    size: int


def replan(menu: Menu, start: Composition, *, most: float, enough: float, seconds: float) -> tuple[Composition, bool]:
    """Improve a composition, region by region; return also whether the time was up before the budget.

    It fits if the first does.
    No further once it makes `enough` rows/s.
    """
    end = time.monotonic() + seconds
    current, sharing, late = start, sharing_of(menu, start), False
    random, left = Random(0), _BUDGET if len(start.counts) <= _PATTERNS else 0
    while left > 0 and sharing.throughput < enough and not late:
        region = _drawn(menu, current, sharing, random)
        left -= _SIZE // 10
        if region is None:
            continue
        left -= region.size + sum(len(pattern) for _, pattern in region.kept)
        least = sharing.throughput * (1 + _GAIN)
        answer = solve(
            region.menu, region.patterns, most=most, least=least, effort=Effort(_NODES, seconds / 2), kept=region.kept
        )
        late = answer.late or time.monotonic() > end
        if answer.composition is not None and holds(menu, answer.composition):
            trial = sharing_of(menu, answer.composition)
            if trial.throughput > sharing.throughput:
                current, sharing = answer.composition, trial
    return current, late


def _drawn(menu: Menu, current: Composition, sharing: Sharing, random: Random) -> _Region | None:
    """Draw a region from one limiting pattern on: some that share members with it, then any, while it stays small."""
    keys = list(current.counts)
    first = random.choice([key for key in keys if any(sharing.worth[m] > 0 for m in key[1])] or keys)
    others = [key for key in keys if key != first]
    random.shuffle(others)
    related = [key for key in others if not set(key[1]).isdisjoint(first[1])][: random.randrange(3)]
    region, free = None, [first]
    for key in [*related, *(key for key in others if key not in related)]:
        wider = _opened(menu, current, free)
        if wider is None:
            break
        region = wider
        free.append(key)
    return region


def _opened(menu: Menu, current: Composition, free: list[Key]) -> _Region | None:
    """Open the region of these patterns' devices, and of those that host nothing; None where it is too large."""
    members = {m for _, pattern in free for m in pattern}
    pools = {pool for pool, _ in free} | {pool for pool, _ in idle(menu, current)}
    offers = [
        {m: options for m, options in offer.items() if m in members} if i in pools else {}
        for i, offer in enumerate(menu.offers)
    ]
    patterns = all_patterns(replace(menu, offers=tuple(offers)), _SIZE)
    if patterns is None:
        return None
    size = sum(len(offers[i][m]) for i, listed in enumerate(patterns) for pattern in listed for m in pattern)
    for pool, pattern in current.counts:
        if pattern not in patterns[pool]:
            patterns[pool].append(pattern)
    fixed = menu.only(current.runs)
    rest = [
        {**fixed.offers[i]} | {m: options for m, options in offer.items() if m in members}
        for i, offer in enumerate(menu.offers)
    ]
    kept = {key: count for key, count in current.counts.items() if key not in free}
    return _Region(replace(menu, offers=tuple(rest)), patterns, kept, size)
