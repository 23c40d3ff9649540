"""Where a reader's segments are, from not yet read to not yet durable."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from heapq import heappush

from hpcens.roles.slots import Slots
from hpcens.vocabulary import Divided, Rows


@dataclass(slots=True)
class OpenSegment:
    """A segment that is being read or not yet wholly handed out.

    owed   device → members it should run
    rows   once they are read
    parts  member → the part of the rows that it scores, see `endgame.Parts`; less what is handed out of them
    begun  member → rows that are handed out, where that is a part of them
    """

    owed: dict[int, list[str]]
    rows: Rows | Divided | None = None
    parts: Mapping[str, int] = field(default_factory=dict)
    begun: dict[str, int] = field(default_factory=dict)

    @property
    def divided(self) -> bool:
        """Whether members do not score all rows."""
        return isinstance(self.rows, Divided)

    def rows_of(self, member: str) -> Rows:
        """Return the rows that the member scores: one object for members that score the same."""
        assert self.rows is not None, "nothing is handed out before it is read"
        return self.rows.rows[member] if isinstance(self.rows, Divided) else self.rows


@dataclass(slots=True)
class Pipeline:
    """Segments by where they are.

    todo       not yet asked for
    slots      of memory that they lie in
    open       being read, or in memory and not wholly handed out; `unread` of them are being read
    ready      device → those in memory of which it owes something, the oldest first
    newest     member → heap of (−segment, device) that were ready once, the newest on top
    unwritten  all that are read, handed out or being written
    """

    todo: deque[int]
    slots: Slots
    open: dict[int, OpenSegment] = field(default_factory=dict)
    unread: int = 0
    ready: dict[int, dict[int, None]] = field(default_factory=dict)
    newest: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    unwritten: set[int] = field(default_factory=set)

    def ending(self, devices: int) -> bool:
        """Return whether so little is left that devices which get a whole segment each would not end together."""
        return not (self.todo or self.unread) and len(self.open) <= devices

    def arrive(self, segment: int, rows: Rows | Divided) -> list[int]:
        """Take in the rows of a segment; return the devices that owe something of it."""
        work = self.open[segment]
        work.rows = rows
        self.unread -= 1
        if not work.owed:  # no member scores a row of it
            self.close(segment)
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

    def close(self, segment: int) -> None:
        """Let go of a segment that is wholly handed out."""
        del self.open[segment]
        self.slots.close(segment)

    def drop(self) -> None:
        """Let go of all that is not wholly handed out: it is neither read, handed out nor written."""
        self.unwritten.difference_update(self.open)
        self.open.clear()
        self.ready.clear()
        self.newest.clear()
        self.unread = 0
        self.todo.clear()
