"""Losses: who does instead what devices that failed had, or were to have."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from hpcens.errors import DeviceFailed
from hpcens.roles.dispatch import WHOLE, Shares
from hpcens.roles.endgame import Forecast
from hpcens.roles.pipeline import Cut, Pipeline
from hpcens.vocabulary import Failed, Returned


class Losses:
    """Keep which devices failed, and let others owe what those do not do. Its methods raise DeviceFailed: none can.

    members  member names, in member order
    """

    def __init__(self, pipeline: Pipeline, forecast: Forecast, shares: Shares, members: Sequence[str]) -> None:
        self._pipeline = pipeline
        self._forecast = forecast
        self._shares = shares
        self._members = members
        self._failed: dict[int, Failed] = {}
        self._taken = 0

    def __contains__(self, device: int) -> bool:
        return device in self._failed

    def lose(self, device: int, failed: Failed) -> set[int]:
        """Let others owe what the device owes; return them."""
        self._failed[device] = failed
        self._forecast.lose(device)
        owing = [segment for segment, work in self._pipeline.open.items() if device in work.owed]
        return {heir for segment in owing for heir in self._bequeath(segment, device)}

    def require_owners(self, segment: int) -> None:
        """Let others owe what devices that failed would owe of a segment that is asked for."""
        for device in self._failed.keys() & self._pipeline.open[segment].owed.keys():
            self._bequeath(segment, device)

    def take_back(self, returned: Returned) -> None:
        """Have rows that a device has returned handed out again, as they were; not of what a drain has dropped."""
        if returned.segment not in self._pipeline.unwritten:
            return
        start, whole = (returned.part.start, returned.part.whole) if returned.part else (0, returned.rows)
        cut = Cut(returned.members, start, start + returned.rows, whole)
        self._pipeline.take_back(returned.segment, self._parted(cut))

    def next_returned(self, able: Collection[int]) -> tuple[int, int, Cut] | None:
        """Take rows that were returned and are in memory, for one of the devices that are able to take some.

        Returns device, segment and rows; None where there are none, or no such device hosts their members.
        """
        pipeline = self._pipeline
        for segment, cuts in pipeline.returned.items():
            if (work := pipeline.open.get(segment)) is None or work.rows is None:
                continue
            for cut in cuts:
                if hosts := self._able(cut.members[0]).intersection(able):
                    parts = dict.fromkeys(cut.members, WHOLE * (cut.stop - cut.start) // cut.whole)
                    device = self._forecast.first_device(hosts, cut.members, parts)
                    self._forecast.hand_out(device, cut.members, parts)
                    cuts.remove(cut)
                    if not cuts:
                        del pipeline.returned[segment]
                    self.count(cut, cut.members)
                    return device, segment, cut
        return None

    def count(self, cut: Cut, taken: Sequence[str]) -> None:
        """Count rows that are handed out. taken: those of their members that a device which failed was to run."""
        self._taken += len(taken) * (cut.stop - cut.start)

    def taken(self) -> int:
        """Return the rows that others were handed since this was asked last, each counted once for each member."""
        taken, self._taken = self._taken, 0
        return taken

    def pass_on(self, segment: int, owner: int, other: int, moved: Sequence[str]) -> None:
        """Let another device owe members that one owes of an open segment."""
        pipeline, work = self._pipeline, self._pipeline.open[segment]
        self._forecast.owe(owner, moved, work.parts, -1)
        self._forecast.owe(other, moved, work.parts)
        both = {*work.owed.get(other, ()), *moved}
        work.owed[other] = [member for member in self._members if member in both]
        work.owed[owner] = [member for member in work.owed[owner] if member not in moved]
        if not work.owed[owner]:
            del work.owed[owner]
            pipeline.ready.get(owner, {}).pop(segment, None)
        if work.rows is not None:
            pipeline.offer(segment, other, moved)

    def _bequeath(self, segment: int, device: int) -> set[int]:
        """Let others owe what a device that failed owes of an open segment, members of a group one of them."""
        work, heirs = self._pipeline.open[segment], set[int]()
        work.taken.update(work.owed[device])
        while owed := work.owed.get(device):
            able = self._able(owed[0])
            members = [m for m in self._shares.beside(owed[0], owed) if self._able(m) == able]
            heir = self._forecast.first_device(able, members, work.parts)
            self.pass_on(segment, device, heir, members)
            heirs.add(heir)
        return heirs

    def _parted(self, cut: Cut) -> list[Cut]:
        """Part members that others host: each part stays with one set of devices, whichever of these fail too."""
        alike: dict[frozenset[int], list[str]] = {}
        for member in cut.members:
            alike.setdefault(self._able(member), []).append(member)
        return [replace(cut, members=tuple(members)) for members in alike.values()]

    def _able(self, member: str) -> frozenset[int]:
        """Return the devices that host the member and work."""
        hosts = self._shares.hosts[member]
        if able := hosts.difference(self._failed):
            return able
        failed = [failed for device, failed in self._failed.items() if device in hosts]
        what = "; ".join(each.failure for each in failed)
        raise DeviceFailed(f"{what}, and no other device hosts member {member}", failed[-1].node)
