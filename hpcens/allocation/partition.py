"""Partitions: few instances of every member, loads levelled by exchanging them, for ensembles that fill their devices.

A device that hosts a set of members has some memory left, and each of them runs in the best way
whose workspace fits that. Most members are on one device only, so nothing else has a say in how
they run; one that needs more than a device's time is split into parts of equal loads.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import ceil, inf
from random import Random

from hpcens.allocation.composition import Composition
from hpcens.allocation.menu import Menu, Option, Pattern
from hpcens.allocation.model import Choice

# Exchanges tried: some tens of microseconds each.
_TRIES = 12_000
# Loads are compared as Σ load^6: the largest counts most, and a tie of two is still seen.
_POWER = 6
# A need above a whole number of devices by no more than this is not worth another instance: which is best is tried.
_WHOLE = (0.15, 0.05, 0.35)

Item = tuple[str, int]
"""A member, and which of its parts."""


def partition(menu: Menu, needs: Mapping[str, float], *, seed: int) -> Composition | None:
    """Find a composition in which most members have one instance; None where there is none.

    needs  devices' worth of time that a member takes at best
    """
    random = Random(seed)
    devices = [pool for pool, each in enumerate(menu.pools) for _ in each.devices]
    parts = {m: min(len(devices), max(1, ceil(needs[m] - _WHOLE[seed % len(_WHOLE)]))) for m in menu.members}
    search = _Search(menu, devices, parts)
    if not search.fill(random):
        return None
    search.level(random)
    counts: dict[tuple[int, Pattern], int] = {}
    runs: dict[str, Choice] = {}
    for device, items in enumerate(search.hosted):
        if items:
            members = {member for member, _ in items}
            key = devices[device], tuple(m for m in menu.members if m in members)
            counts[key] = counts.get(key, 0) + 1
            for member, choice in search.runs(device).items():
                # What fits on the fullest of its devices fits on all.
                runs[member] = min(runs.get(member, choice), choice)
    return Composition(counts, {m: runs[m] for m in menu.members})


class _Search:
    """Members on devices, and what each device's second would cost."""

    def __init__(self, menu: Menu, devices: list[int], parts: Mapping[str, int]) -> None:
        self._menu = menu
        self._parts = parts
        self._items = [(m, i) for m in menu.members for i in range(parts[m])]
        self._devices = devices
        self._context = [
            max((o.context for options in offer.values() for o in options.values()), default=0) for offer in menu.offers
        ]
        # pool → member → weights, and its choices by rising workspace, each faster than those before
        self._steps = [{m: _steps(options) for m, options in offer.items()} for offer in menu.offers]
        self.hosted: list[set[Item]] = [set() for _ in devices]

    def load(self, device: int, items: set[Item]) -> float:
        """Return the seconds a row of all these takes on the device; inf where they do not fit."""
        pool = self._devices[device]
        steps = self._steps[pool]
        left = self._menu.room[pool] - self._context[pool]
        for member, _ in items:
            if member not in steps:
                return inf
            left -= steps[member][0]
        total = 0.0
        for member, _ in items:
            best = inf
            for workspace, seconds, _ in steps[member][1]:
                if workspace > left:
                    break
                best = seconds
            total += best / self._parts[member]
        return total

    def runs(self, device: int) -> dict[str, Choice]:
        """Return how each member of the device runs."""
        pool = self._devices[device]
        steps = self._steps[pool]
        left = self._menu.room[pool] - self._context[pool] - sum(steps[m][0] for m, _ in self.hosted[device])
        return {
            m: [choice for workspace, _, choice in steps[m][1] if workspace <= left][-1] for m, _ in self.hosted[device]
        }

    def fill(self, random: Random) -> bool:
        """Give every member a device, the heaviest first, each where the load stays least."""
        size = {m: max(steps[m][0] for steps in self._steps if m in steps) for m in self._menu.members}
        order = sorted(self._items, key=lambda item: -size[item[0]])
        for _ in range(50):
            self.hosted = [set() for _ in self._devices]
            if all(self._seat(item) for item in order):
                return True
            for _ in range(3):
                a, b = random.randrange(len(order)), random.randrange(len(order))
                order.insert(a, order.pop(b))
        return False

    def _seat(self, item: Item) -> bool:
        loads = [self.load(d, self.hosted[d] | {item}) for d in range(len(self._devices))]
        device = min(range(len(loads)), key=loads.__getitem__)
        if loads[device] == inf:
            return False
        self.hosted[device].add(item)
        return True

    def level(self, random: Random) -> None:
        """Move and exchange members between two devices while that levels the loads."""
        loads = [self.load(d, items) for d, items in enumerate(self.hosted)]
        if len(loads) < 2:
            return
        for _ in range(_TRIES):
            most = max(loads)
            first_device = loads.index(most) if random.random() < 0.5 else random.randrange(len(loads))
            second_device = random.randrange(len(loads))
            if first_device == second_device:
                continue
            now = (loads[first_device] / most) ** _POWER + (loads[second_device] / most) ** _POWER
            for first, second in self._exchange(random, first_device, second_device):
                a = self.load(first_device, first)
                if a > most * 2 ** (1 / _POWER):
                    continue
                b = self.load(second_device, second)
                if (a / most) ** _POWER + (b / most) ** _POWER < now * (1 - 1e-9):
                    self.hosted[first_device], self.hosted[second_device] = first, second
                    loads[first_device], loads[second_device] = a, b
                    break

    def _exchange(self, random: Random, first_device: int, second_device: int) -> Iterator[tuple[set[Item], set[Item]]]:
        first_items, second_items = sorted(self.hosted[first_device]), sorted(self.hosted[second_device])
        if first_items:
            moved = random.choice(first_items)
            yield self.hosted[first_device] - {moved}, self.hosted[second_device] | {moved}
            if second_items:
                back = random.choice(second_items)
                yield self.hosted[first_device] - {moved} | {back}, self.hosted[second_device] - {back} | {moved}


def _steps(options: Mapping[Choice, Option]) -> tuple[int, list[tuple[int, float, Choice]]]:
    steps: list[tuple[int, float, Choice]] = []
    for workspace, seconds, choice in sorted((o.workspace, 1 / o.speed, choice) for choice, o in options.items()):
        if not steps or seconds < steps[-1][1]:
            steps.append((workspace, seconds, choice))
    return max(o.weights for o in options.values()), steps
