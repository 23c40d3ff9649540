"""Compositions: placements counted rather than listed, so that a thousand equal devices cost no more than one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from hpcens.allocation.menu import Menu, Pattern
from hpcens.allocation.model import Choice, Placement
from hpcens.allocation.sharing import Group, Sharing, share

Counts = Mapping[tuple[int, Pattern], int]
"""(number of the pool, pattern) to the number of devices of the pool that host the pattern, ≥ 1."""


@dataclass(frozen=True, slots=True)
class Composition:
    """How many devices of each pool host which pattern, and how every member runs."""

    counts: Counts
    runs: Mapping[str, Choice]

    def changed(self, pool: int, old: Pattern, new: Pattern, devices: int = 1) -> Composition:
        """Return the composition in which so many devices host the new pattern instead of the old one."""
        counts = dict(self.counts)
        if old:
            counts[pool, old] -= devices
            if not counts[pool, old]:
                del counts[pool, old]
        if new:
            counts[pool, new] = counts.get((pool, new), 0) + devices
        return Composition(counts, self.runs)


def of_devices(menu: Menu, placement: Placement) -> Composition:
    """Return the composition of a placement."""
    counts: dict[tuple[int, Pattern], int] = {}
    for i, pool in enumerate(menu.pools):
        for device in pool.devices:
            if pattern := placement.hosted.get(device.name, ()):
                counts[i, pattern] = counts.get((i, pattern), 0) + 1
    return Composition(counts, placement.runs)


def place_counts(menu: Menu, composition: Composition, forced: str = "") -> Placement:
    """Return the placement of a composition: patterns go to the devices of their pool in order."""
    free = [iter(pool.devices) for pool in menu.pools]
    hosted = {
        next(free[pool]).name: pattern for (pool, pattern), count in composition.counts.items() for _ in range(count)
    }
    return Placement(hosted, composition.runs, forced)


def idle(menu: Menu, composition: Composition) -> Iterator[tuple[int, int]]:
    """Return the pools with devices that host nothing, and how many of them."""
    used = [0] * len(menu.pools)
    for (pool, _), count in composition.counts.items():
        used[pool] += count
    return ((i, len(pool.devices) - used[i]) for i, pool in enumerate(menu.pools) if len(pool.devices) > used[i])


def sharing_of(menu: Menu, composition: Composition) -> Sharing:
    """Return the division of device time with the highest throughput under the composition."""
    return share(menu.members, groups_of(menu, composition))


def groups_of(menu: Menu, composition: Composition) -> Sequence[Group]:
    """Return the devices that host the same, as groups of the linear program."""
    return [
        Group(count, {m: menu.offers[pool][m][composition.runs[m]].speed for m in pattern})
        for (pool, pattern), count in composition.counts.items()
    ]


def holds(menu: Menu, composition: Composition) -> bool:
    """Tell whether every pattern fits the devices that host it."""
    return all(menu.spare(pool, pattern, composition.runs) >= 0 for pool, pattern in composition.counts)
