"""Decide whether a device that has room should get a segment, or another that will finish it sooner.

While much is left, all get what they have room for. Towards the end, the others would wait for a device that takes
longer with one more segment than all devices together take for what is left: it leaves the segment to the device that
is first to finish it, though that may have no room yet. Times are those of the plan: a role has no clock.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Mapping, Sequence

from hpcens.roles.dispatch import WHOLE, Shares

Parts = Mapping[str, int]
"""Member → the part of a segment's rows that it scores, of `WHOLE`; of those that are absent, all."""


class Forecast:
    """Keep what each device has to do, by the plan: a segment counts for one row.

    Sums are of whole numbers: with rounded ones, two devices might pass a segment to and fro for ever.
    """

    def __init__(self, shares: Shares, devices: Collection[int]) -> None:
        self._shares = shares
        self._under_way: dict[int, deque[int]] = {device: deque() for device in devices}
        self._handed = dict.fromkeys(devices, 0)
        self._owed = dict.fromkeys(devices, 0)
        self._all_handed = 0
        self._hosts = frozenset().union(*shares.hosts.values())

    @property
    def under_way(self) -> bool:
        """Whether any device has not yet finished all that it was handed."""
        return any(self._under_way.values())

    def lose(self, device: int) -> None:
        """Expect nothing of a device any more, but that it returns what it has."""
        self._all_handed -= self._handed[device]
        self._handed[device] = 0
        self._under_way[device] = deque(0 for _ in self._under_way[device])
        self._hosts -= {device}

    def first_device(self, devices: Collection[int], members: Sequence[str], parts: Parts) -> int:
        """Return which of the devices would be the first to have run these members of one more segment."""
        return min((self._ends(rank, members, parts), rank) for rank in devices)[1]

    def owe(self, device: int, members: Sequence[str], parts: Parts, sign: int = 1) -> None:
        """Note that the device is to run these members on a segment; or no longer, where the sign is negative."""
        self._owed[device] += sign * self._takes(device, members, parts)

    def hand_out(self, device: int, members: Sequence[str], parts: Parts) -> None:
        """Note that these members of a segment are under way to the device."""
        takes = self._takes(device, members, parts)
        self._under_way[device].append(takes)
        self._handed[device] += takes
        self._all_handed += takes

    def finish_oldest(self, device: int) -> None:
        """Note that the device has finished the oldest of what it had."""
        if self._under_way[device]:
            takes = self._under_way[device].popleft()
            self._handed[device] -= takes
            self._all_handed -= takes

    def faster_device(self, device: int, members: Sequence[str], parts: Parts, left: int) -> int | None:
        """Find the device that finishes these members of a segment sooner than this one, if this one is late with them.

        left  number of segments of which something is not handed out
        Returns None where this device is not late, or no other is faster.
        """
        done = self._handed[device] + self._takes(device, members, parts)
        if not self._late(done, left):
            return None
        hosts = (self._shares.hosts[member] for member in members)
        others = self._hosts.intersection(*hosts) - {device}
        end, other = min(((self._ends(rank, members, parts), rank) for rank in others), default=(done, device))
        return other if end < done else None

    def may_take(self, device: int, members: Sequence[str], parts: Parts, owner: int, left: int) -> bool:
        """Return whether the device will have run the members on the owner's last segment before the owner has."""
        done = self._handed[device] + self._takes(device, members, parts)
        return not self._late(done, left) or done < self._handed[owner] + self._owed[owner]

    def _late(self, done: int, left: int) -> bool:
        return done > self._all_handed / max(1, len(self._hosts)) + left * self._shares.row_takes

    def _ends(self, device: int, members: Sequence[str], parts: Parts) -> int:
        return self._handed[device] + self._owed[device] + self._takes(device, members, parts)

    def _takes(self, device: int, members: Sequence[str], parts: Parts) -> int:
        return sum(self._shares.takes[member][device] * parts.get(member, WHOLE) // WHOLE for member in members)
