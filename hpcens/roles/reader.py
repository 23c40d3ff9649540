"""The reader: hands segments to devices as they have room, and knows when all is done."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from hpcens.messages import (
    LOCAL,
    Batch,
    Bye,
    Drain,
    Finish,
    Last,
    Message,
    Progress,
    Read,
    Ready,
    Rows,
    SegmentRead,
    Send,
    Tally,
    Written,
)
from hpcens.roles.dispatch import Shares


@dataclass(slots=True)
class _Open:
    """A segment that is being read or not yet wholly handed out."""

    owed: dict[int, list[str]]
    rows: Rows | None = None
    started: bool = False

    def members(self) -> Iterator[tuple[int, str]]:
        return ((owner, member) for owner, members in self.owed.items() for member in members)


@dataclass(slots=True)
class _Pipeline:
    """Segments by where they are; `unwritten` holds those read, handed out or being written."""

    todo: deque[int]
    open: dict[int, _Open] = field(default_factory=dict)
    unwritten: set[int] = field(default_factory=set)


class Reader:
    """Sans-I/O. Invariants: every (segment, member) is handed out at most once; at most
    `read_ahead` segments are in memory; at most `window` are handed out and not durable.

    segments    what is to be scored, in reading order
    members     member names, in member order
    shares      from the plan
    devices     ranks of the devices
    reducer     rank of the reducer
    """

    def __init__(
        self,
        *,
        segments: Sequence[int],
        members: Sequence[str],
        shares: Shares,
        devices: Collection[int],
        reducer: int,
        window: int,
        read_ahead: int,
    ) -> None:
        self._members = tuple(members)
        self._shares = shares
        self._reducer = reducer
        self._window = window
        self._read_ahead = read_ahead
        self._pipeline = _Pipeline(deque(segments))
        self._credits = dict.fromkeys(devices, 0)
        self._awaited = set(devices)
        self._last = False
        self.tallies: dict[int, Tally] = {}
        self.drained = ""

    @property
    def done(self) -> bool:
        return self._last and not self._awaited and not self._pipeline.unwritten

    def start(self) -> list[Send]:
        return [*self._read_on(), *self._end()]

    def handle(self, message: Message, source: int) -> list[Send]:
        match message:
            case Ready(credits):
                self._credits[source] += credits
                return [] if self._last else self._hand_out()
            case SegmentRead(segment, rows):
                if segment not in self._pipeline.open:  # drained while it was being read
                    return []
                self._pipeline.open[segment].rows = rows
                return self._hand_out()
            case Written(segments):
                self._pipeline.unwritten.difference_update(segments)
                progress = Send(LOCAL, Progress(segments, len(self._pipeline.unwritten)))
                return [progress, *([] if self._last else self._hand_out())]
            case Bye(tally):
                self._awaited.discard(source)
                self.tallies[source] = tally
                return []
            case Drain(reason):
                return self._drain(reason)
        raise TypeError(f"the reader has no use for {type(message).__name__} from rank {source}")

    def _hand_out(self) -> list[Send]:
        """Give every device with room what it owes, else what a busier device will not get to."""
        sends: list[Send] = []
        busy = False
        while not busy:
            busy = True
            free = [rank for rank, room in self._credits.items() if room > 0]
            for device in sorted(free, key=lambda rank: -self._credits[rank]):
                if batch := self._own(device) or self._spare(device):
                    self._credits[device] -= 1
                    sends.append(Send(device, batch))
                    busy = False
        return [*sends, *self._read_on(), *self._end()]

    def _own(self, device: int) -> Batch | None:
        for segment, work in self._pipeline.open.items():
            if work.rows is not None and device in work.owed:
                return self._take(segment, work, device, tuple(work.owed[device]))
        return None

    def _spare(self, device: int) -> Batch | None:
        """Work of a device that has no room now, from the newest segment, one member at a time.

        Only once nothing of its own can come: everything is read or the pipeline is full.
        """
        if any(work.rows is None for work in self._pipeline.open.values()) or self._may_read():
            return None
        for segment in reversed(self._pipeline.open):
            work = self._pipeline.open[segment]
            for owner, member in work.members():
                if self._credits[owner] <= 0 and device in self._shares.hosts[member]:
                    return self._take(segment, work, owner, (member,))
        return None

    def _take(self, segment: int, work: _Open, owner: int, members: tuple[str, ...]) -> Batch:
        assert work.rows is not None
        work.started = True
        left = [member for member in work.owed[owner] if member not in members]
        if left:
            work.owed[owner] = left
        else:
            del work.owed[owner]
        if not work.owed:
            del self._pipeline.open[segment]
        return Batch(segment, members, work.rows)

    def _may_read(self) -> bool:
        pipeline = self._pipeline
        room = len(pipeline.open) < self._read_ahead and len(pipeline.unwritten) < self._window
        return bool(pipeline.todo) and room

    def _read_on(self) -> list[Send]:
        sends = []
        while self._may_read():
            segment = self._pipeline.todo.popleft()
            owed: dict[int, list[str]] = {}
            for member in self._members:
                owed.setdefault(self._shares.owner(segment, member), []).append(member)
            self._pipeline.open[segment] = _Open(owed)
            self._pipeline.unwritten.add(segment)
            sends.append(Send(LOCAL, Read(segment)))
        return sends

    def _end(self) -> list[Send]:
        """Once nothing is left to hand out: tell the reducer what to wait for, the devices to go."""
        pipeline = self._pipeline
        if self._last or pipeline.todo or pipeline.open:
            return []
        self._last = True
        last = Last(tuple(sorted(pipeline.unwritten)))
        return [Send(self._reducer, last), *(Send(device, Finish()) for device in self._credits)]

    def _drain(self, reason: str) -> list[Send]:
        """Drop what is not wholly handed out: a segment is finished only if all its members are under way."""
        if self._last:
            return []
        self.drained = reason
        pipeline = self._pipeline
        pipeline.unwritten.difference_update(pipeline.open)
        pipeline.open.clear()
        pipeline.todo.clear()
        return self._end()


def shares_by_rank(shares: Mapping[tuple[str, str], float], ranks: Mapping[str, int]) -> Shares:
    """Shares of a plan, (device name, member) → rows/s, with device names as ranks."""
    by_member: dict[str, dict[int, float]] = {}
    for (device, member), share in shares.items():
        by_member.setdefault(member, {})[ranks[device]] = share
    return Shares(by_member)
