"""Climbing: improve a composition that memory keeps from the bound, one instance or choice at a time.

The prices of the linear program over the composition say which changes can help at all: those by
which rows come to be made for less than they are worth. The most promising is solved first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from itertools import chain, islice

from hpcens.allocation.composition import Composition, holds, idle, sharing_of
from hpcens.allocation.menu import Menu, Pattern
from hpcens.allocation.sharing import Sharing

# Relative gain below which a change is not made.
_GAIN = 1e-6
# Linear programs solved at most, and what they may come to over all in patterns: some hundredths of a millisecond each.
_BUDGET, _LEAST_BUDGET = 80, 10
_BUDGET_CELLS = 3000

Hosts = dict[str, list[tuple[int, Pattern]]]
"""Member → the patterns it is in, with their pools."""


def climb(menu: Menu, start: Composition, enough: float) -> tuple[Composition, float]:
    """Improve a composition, and return it with its rows/s; it fits if the first does.

    No further once it makes `enough` rows/s, or a number of linear programs were solved, fewer where
    they are large.
    """
    current, sharing = start, sharing_of(menu, start)
    budget = max(_LEAST_BUDGET, min(_BUDGET, _BUDGET_CELLS // len(start.counts)))
    while sharing.throughput < enough:
        changes = sorted(_changes(menu, current, sharing), key=lambda change: -change[0])
        for other in islice(chain.from_iterable(others() for _, others in changes), budget):
            budget -= 1
            trial = sharing_of(menu, other)
            if trial.throughput > sharing.throughput * (1 + _GAIN):
                current, sharing = other, trial
                break
        else:
            break
    return current, sharing.throughput


Change = tuple[float, Callable[[], Iterable[Composition]]]
"""What a device's time is worth above its rent where something changes, and the compositions with that change."""


def _changes(menu: Menu, current: Composition, sharing: Sharing) -> Iterator[Change]:
    """Yield changes to compositions that fit and may be faster."""
    worth = sharing.worth
    rents = dict(zip(current.counts, sharing.rents, strict=True))
    least = _GAIN * sharing.throughput
    hosts: Hosts = {m: [] for m in menu.members}
    for key in current.counts:
        for member in key[1]:
            hosts[member].append(key)
    for member in menu.members:
        devices = sum(current.counts[key] for key in hosts[member])
        for choice in menu.of(member):
            other = replace(current, runs={**current.runs, member: choice})
            rates = ((_rate(menu, pool, member, other), rents[pool, pattern]) for pool, pattern in hosts[member])
            surplus = max(rate * worth[member] - rent for rate, rent in rates)
            if surplus > least and choice != current.runs[member]:
                yield surplus * devices, partial(_if_held, menu, other)
        for pool, unused in idle(menu, current):
            if menu.spare(pool, (member,), current.runs) >= 0:
                other = current.changed(pool, (), (member,), unused)
                yield worth[member] * _rate(menu, pool, member, current), partial(_if_held, menu, other)
        for pool, pattern in current.counts:
            surplus = worth[member] * _rate(menu, pool, member, current) - rents[pool, pattern]
            if member not in pattern and surplus > least:
                yield surplus, partial(_with, menu, current, pool, pattern, member, hosts)


def _if_held(menu: Menu, other: Composition) -> Iterator[Composition]:
    if holds(menu, other):
        yield other


def _with(
    menu: Menu,
    current: Composition,
    pool: int,
    pattern: Pattern,
    member: str,
    hosts: Hosts,
) -> Iterator[Composition]:
    """Place the member on one more device: beside its members, or instead of one that other devices host too.

    Or in exchange for one that goes where the member was.
    """
    wider = _ordered(menu, {*pattern, member})
    if menu.spare(pool, wider, current.runs) >= 0:
        yield current.changed(pool, pattern, wider)
        return
    for old in pattern:
        rest = _ordered(menu, {*pattern, member} - {old})
        if menu.spare(pool, rest, current.runs) < 0:
            continue
        instead = current.changed(pool, pattern, rest)
        if sum(current.counts[key] for key in hosts[old]) > 1:
            yield instead
        for at, hosted in hosts[member]:
            if old in hosted or (at, hosted) not in instead.counts:
                continue
            after = _ordered(menu, {*hosted, old} - {member})
            if menu.spare(at, after, current.runs) >= 0:
                yield instead.changed(at, hosted, after)


def _ordered(menu: Menu, members: set[str]) -> Pattern:
    return tuple(m for m in menu.members if m in members)


def _rate(menu: Menu, pool: int, member: str, current: Composition) -> float:
    option = menu.offers[pool].get(member, {}).get(current.runs[member])
    return option.speed if option else 0.0
