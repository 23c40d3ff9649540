"""Where a reader's segments are, from not yet read to not yet durable."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush

from hpcens.roles.dispatch import WHOLE
from hpcens.roles.slots import Slots
from hpcens.vocabulary import Divided, Part, Rows


@dataclass(slots=True)
class OpenSegment:
    """A segment that is being read or not yet wholly handed out.

    owed   device → members it should run
    rows   once they are read
    parts  member → the part of the rows that it scores, see `endgame.Parts`; less what is handed out of them
    begun  member → rows that are handed out, where that is a part of them
    taken  members that a device which failed was to run
    """

    owed: dict[int, list[str]]
    rows: Rows | Divided | None = None
    parts: Mapping[str, int] = field(default_factory=dict)
    begun: dict[str, int] = field(default_factory=dict)
    taken: set[str] = field(default_factory=set)

    @property
    def divided(self) -> bool:
        """Whether members do not score all rows."""
        return isinstance(self.rows, Divided)

    def rows_of(self, member: str) -> Rows:
        """Return the rows that the member scores: one object for members that score the same."""
        assert self.rows is not None, "nothing is handed out before it is read"
        return self.rows.rows[member] if isinstance(self.rows, Divided) else self.rows


@dataclass(frozen=True, slots=True)
class Cut:
    """What a device is to have of a segment: rows from start to stop, of `whole`, for these members."""

    members: tuple[str, ...]
    start: int
    stop: int
    whole: int

    @property
    def part(self) -> Part | None:
        """Which part of the segment it is; None where it is all."""
        return Part(self.start, self.whole) if self.stop - self.start < self.whole else None

    @property
    def leaves_some(self) -> bool:
        """Whether rows of the segment are left after it."""
        return self.stop < self.whole

    def of(self, rows: Rows) -> Rows:
        """Return its rows of those of the segment."""
        return rows if self.part is None else tuple(array[self.start : self.stop] for array in rows)

    def take_from(self, work: OpenSegment) -> Mapping[str, int]:
        """Note that it is handed out; return what part of their rows that is of each member, as `work.parts` does."""
        if self.part is None:
            return work.parts
        work.begun |= dict.fromkeys(self.members, self.stop)
        left = WHOLE * (self.whole - self.stop) // self.whole
        work.parts = {**work.parts, **dict.fromkeys(self.members, left)}
        return dict.fromkeys(self.members, WHOLE * (self.stop - self.start) // self.whole)


@dataclass(slots=True)
class Pipeline:
    """Segments by where they are.

    todo       not yet asked for, or to be read again
    slots      of memory that they lie in
    window, read_ahead  see `Reader`
    open       being read, or in memory and not wholly handed out; `unread` of them are being read
    ready      device → those in memory of which it owes something, the oldest first
    newest     member → heap of (−segment, device) that were ready once, the newest on top
    unwritten  all that are read, handed out or being written
    returned   segment → what devices that failed have returned of it: it is read again where it was closed
    """

    todo: deque[int]
    slots: Slots
    window: int
    read_ahead: int
    open: dict[int, OpenSegment] = field(default_factory=dict)
    unread: int = 0
    ready: dict[int, dict[int, None]] = field(default_factory=dict)
    newest: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    unwritten: set[int] = field(default_factory=set)
    returned: dict[int, list[Cut]] = field(default_factory=dict)

    @property
    def left(self) -> int:
        """Number of segments of which something is not handed out."""
        return len(self.todo) + len(self.open)

    @property
    def may_read(self) -> bool:
        """Whether another segment may be read."""
        if not self.todo or len(self.open) >= self.read_ahead or not self.slots.any_free:
            return False
        return len(self.unwritten) < self.window or self.todo[0] in self.unwritten

    def ending(self, devices: int) -> bool:
        """Return whether so little is left that devices which get a whole segment each would not end together."""
        return not (self.todo or self.unread) and len(self.open) <= devices

    def arrive(self, segment: int, rows: Rows | Divided) -> list[int]:
        """Take in the rows of a segment; return the devices that owe something of it."""
        work = self.open[segment]
        work.rows = rows
        self.unread -= 1
        self.close_if_through(segment)  # where no member scores a row of it
        for device, members in work.owed.items():
            self.offer(segment, device, members)
        return list(work.owed)

    def offer(self, segment: int, device: int, members: Sequence[str]) -> None:
        """Note that a device owes these members of a segment that is in memory."""
        self.ready.setdefault(device, {})[segment] = None
        for member in members:
            heappush(self.newest.setdefault(member, []), (-segment, device))

    def owed(self, segment: int, device: int) -> Sequence[str]:
        """Return the members that the device owes of the segment."""
        work = self.open.get(segment)
        return work.owed.get(device, ()) if work else ()

    def newest_owed(self) -> list[tuple[int, int, str]]:
        """Return of each member the newest segment in memory that it is owed of, with its owner; the newest first."""
        tops = []
        for member, heap in self.newest.items():
            while heap and member not in self.owed(-heap[0][0], heap[0][1]):
                heappop(heap)
            if heap:
                tops.append((heap[0], member))
        return [(-segment, owner, member) for (segment, owner), member in sorted(tops, key=lambda top: top[0])]

    def close_if_through(self, segment: int) -> None:
        """Let go of a segment once it is wholly handed out."""
        if not self.open[segment].owed and segment not in self.returned:
            del self.open[segment]
            self.slots.close(segment)

    def take_back(self, segment: int, cuts: Sequence[Cut]) -> None:
        """Have what a device has returned of a segment handed out again."""
        if segment not in self.open and segment not in self.returned:
            self.todo.appendleft(segment)
        self.returned.setdefault(segment, []).extend(cuts)

    def drop(self) -> None:
        """Let go of all that is not wholly handed out: it is neither read, handed out nor written."""
        self.unwritten.difference_update(self.open, self.returned)
        for segment in self.open:
            self.slots.close(segment)
        self.open.clear()
        self.returned.clear()
        self.ready.clear()
        self.newest.clear()
        self.unread = 0
        self.todo.clear()
