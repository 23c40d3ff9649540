"""Foresight: whether a device that has room should get a segment, or another that will be done with it sooner.

While much is left, all get what they have room for. What is left takes everyone together some time; a device that
would take longer with one more segment, which the others wait for in the end, leaves it to the one that is first to
finish it, though that may have no room yet. Times are those of the plan: a role has no clock.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Sequence

from hpcens.roles.dispatch import Shares


class Foresight:
    """What each device has to do, by the plan: a segment counts for one row.

    Sums are of whole numbers: with rounded ones, two devices might pass a segment to and fro for ever.
    """

    def __init__(self, shares: Shares, devices: Collection[int]) -> None:
        self._shares = shares
        self._under_way: dict[int, deque[int]] = {device: deque() for device in devices}
        self._handed = dict.fromkeys(devices, 0)
        self._owed = dict.fromkeys(devices, 0)
        self._all_handed = 0
        self._hosts = len(frozenset().union(*shares.hosts.values()))

    def owes(self, device: int, members: Sequence[str], sign: int = 1) -> None:
        """The device is to run these members on a segment; or is not any more, where the sign is negative."""
        self._owed[device] += sign * self._takes(device, members)

    def gave(self, device: int, members: Sequence[str]) -> None:
        """These members of a segment are under way to the device."""
        takes = self._takes(device, members)
        self._under_way[device].append(takes)
        self._handed[device] += takes
        self._all_handed += takes

    def finished(self, device: int) -> None:
        """The oldest of what the device had."""
        if self._under_way[device]:
            takes = self._under_way[device].popleft()
            self._handed[device] -= takes
            self._all_handed -= takes

    def sooner(self, device: int, members: Sequence[str], left: int) -> int | None:
        """The device that finishes these members of a segment before this one does, which is late with them; if any.

        left  segments of which something is not handed out
        """
        done = self._handed[device] + self._takes(device, members)
        if not self._late(done, left):
            return None
        others = frozenset.intersection(*(self._shares.hosts[member] for member in members)) - {device}
        ends = [(self._handed[of] + self._owed[of] + self._takes(of, members), of) for of in others]
        end, other = min(ends, default=(done, device))
        return other if end < done else None

    def may_take(self, device: int, member: str, owner: int, left: int) -> bool:
        """Whether the device will have run the member on the owner's last segment before the owner has."""
        done = self._handed[device] + self._takes(device, (member,))
        return not self._late(done, left) or done < self._handed[owner] + self._owed[owner]

    def _late(self, done: int, left: int) -> bool:
        return done > self._all_handed / self._hosts + left * self._shares.row_takes

    def _takes(self, device: int, members: Sequence[str]) -> int:
        return sum(self._shares.takes[member][device] for member in members)
