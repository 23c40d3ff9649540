"""Layouts: which members the devices of a pool host, so that their times come out and the memory holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random

from hpcens.allocation.menu import Menu, Pattern
from hpcens.allocation.model import Choice

# Loading every member on every device is cheap within these seconds, or this part of the run.
_LOAD_SECONDS = 10.0
_LOAD_PART = 0.02
# Changes tried of the order in which members are laid end to end, where the first does not fit.
_TRIES = 300
# Device time too short for an instance: the shares are computed afterwards and make up for it.
_SLIVER = 1e-8

Layout = tuple[tuple[Pattern, int], ...]
"""Patterns with the number of devices that host them, in the order of the devices."""


def lay(
    menu: Menu,
    pool: int,
    times: Mapping[str, float],
    runs: Mapping[str, Choice],
    *,
    load_seconds: Mapping[str, float],
    run_seconds: float,
) -> tuple[Layout, float]:
    """Lay out the members' times (devices' worth, on this pool); return also the bytes by which that is too large.

    Replicated, all members on every device, where the memory holds that and loading them takes at
    most 10 s or 2 % of the run. Else wrapped; where the memory does not hold the members in the
    order given, in the best order found by exchanging and moving one at a time.
    """
    members = tuple(m for m in menu.members if m in times)
    devices = len(menu.pools[pool].devices)
    if not members:
        return (), 0
    loading = sum(load_seconds[m] for m in members)
    if loading <= max(_LOAD_SECONDS, _LOAD_PART * run_seconds) and menu.spare(pool, members, runs) >= 0:
        return ((members, devices),), 0
    wrapped = _wrapped(times, members, devices)
    if (excess := _excess(menu, pool, wrapped, runs)) == 0:
        return wrapped, excess
    return _reordered(menu, pool, times, runs)


def _wrapped(times: Mapping[str, float], order: Sequence[str], devices: int) -> Layout:
    """Lay the times end to end over [0, devices): device i hosts those that meet [i, i + 1).

    Devices wholly inside one member's time are counted, not listed.
    """
    layout: list[tuple[Pattern, int]] = []
    open_device = 0
    hosted: list[str] = []
    start = 0.0
    for member in order:
        stop = start + times[member]
        first = min(int(start + _SLIVER), devices - 1)
        last = min(max(int(stop - _SLIVER), first), devices - 1)
        if first > open_device:
            layout.append((tuple(hosted), 1))
            open_device, hosted = first, []
        hosted.append(member)
        if last > first:
            layout.append((tuple(hosted), 1))
            if last - first > 1:
                layout.append(((member,), last - first - 1))
            open_device, hosted = last, [member]
        start = stop
    layout.append((tuple(hosted), 1))
    return tuple((pattern, count) for pattern, count in layout if pattern)


def _excess(menu: Menu, pool: int, layout: Layout, runs: Mapping[str, Choice]) -> float:
    """Sum the bytes that a layout needs beyond the memory of its devices."""
    return sum(count * max(0.0, -menu.spare(pool, pattern, runs)) for pattern, count in layout)


def _reordered(menu: Menu, pool: int, times: Mapping[str, float], runs: Mapping[str, Choice]) -> tuple[Layout, float]:
    devices = len(menu.pools[pool].devices)
    # Side by side, members with large workspaces share one.
    order = sorted((m for m in menu.members if m in times), key=lambda m: menu.offers[pool][m][runs[m]].workspace)
    best = _wrapped(times, order, devices)
    least = _excess(menu, pool, best, runs)
    random = Random(0)
    for _ in range(_TRIES):
        if least == 0:
            break
        other = order.copy()
        first, second = random.randrange(len(order)), random.randrange(len(order))
        if random.random() < 0.5:
            other[first], other[second] = other[second], other[first]
        else:
            other.insert(second, other.pop(first))
        layout = _wrapped(times, other, devices)
        if (now := _excess(menu, pool, layout, runs)) <= least:
            order, best, least = other, layout, now
    return best, least
