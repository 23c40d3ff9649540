"""The reader: hands segments to devices as they have room, and knows when all is done."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Mapping, Sequence

from hpcens.roles.dispatch import WHOLE, Shares, turn
from hpcens.roles.endgame import Forecast
from hpcens.roles.losses import Losses
from hpcens.roles.parts import Cuts
from hpcens.roles.pipeline import Cut, OpenSegment, Pipeline
from hpcens.roles.slots import Slots
from hpcens.vocabulary import (
    LOCAL,
    Batch,
    Bye,
    Divided,
    Drain,
    Failed,
    Finish,
    Last,
    Message,
    Progress,
    Read,
    Ready,
    Released,
    Returned,
    Routed,
    Rows,
    SegmentRead,
    Send,
    Tally,
    Written,
)


class Reader:
    """Hand segments to devices as they have room. Sans-I/O.

    Invariants: every row of a (segment, member) is handed out at most once, if it scores the row, and once more where
    the device that had it failed and has returned it; at most `read_ahead` segments are in memory; at most `window` are
    handed out and not durable.

    segments    what this reader reads, in reading order
    members     member names, in member order
    shares      how the plan divides members among devices
    devices     ranks of the devices
    reducers    ranks of the reducers, in the order of their turns
    first       rank of the first reader, which this one reports its progress to; None if it is the first
    others      at the first reader: ranks of the other readers; elsewhere none
    window      segments that may be handed out and not durable
    read_ahead  segments that may be in memory and not wholly handed out
    slots       of memory that devices read from, each for a segment; None: rows travel with messages
    batches     member → rows of its batches, at whose bounds the last segments may be cut; None: none is
    """

    def __init__(
        self,
        *,
        segments: Sequence[int],
        members: Sequence[str],
        shares: Shares,
        devices: Collection[int],
        reducers: Sequence[int],
        first: int | None = None,
        others: Collection[int] = (),
        window: int,
        read_ahead: int,
        slots: int | None = None,
        batches: Mapping[str, int] | None = None,
    ) -> None:
        self._members = tuple(members)
        self._shares = shares
        self._reducers = tuple(reducers)
        self._first = first
        self._others = tuple(others)
        self._pipeline = Pipeline(deque(segments), Slots(slots), window, read_ahead)
        self._credits = dict.fromkeys(devices, 0)
        self._forecast = Forecast(shares, devices)
        self._cuts = Cuts(shares, batches or {})
        self._losses = Losses(self._pipeline, self._forecast, shares, self._members)
        self._free: set[int] = set()
        self._awaited = {*devices, *others}
        self._last = False
        self._finished = False
        self._reported = False
        self._gone = False
        self.tallies: dict[int, Tally] = {}
        self.drained = ""

    @property
    def done(self) -> bool:
        """Whether all of it is durable and every device has gone; of several readers, the first has to say so."""
        return self._gone

    def start(self) -> list[Send]:
        """Begin to read."""
        return self._leave([*self._read_on(), *self._end()])

    def handle(self, message: Message, source: int) -> list[Send]:
        """Take in a message of the protocol."""
        return self._leave(self._answer(message, source))

    def _answer(self, message: Message, source: int) -> list[Send]:
        match message:
            case Ready(credits, further):
                if not further:
                    self._forecast.finish_oldest(source)
                if source in self._losses:
                    return self._end()
                self._credits[source] += credits
                self._free.add(source)
                return self._hand_out([source])
            case Released(slot):
                self._pipeline.slots.release(slot)
                return self._hand_out([])
            case Failed(failure):
                self._credits[source] = 0
                self._free.discard(source)
                told = [Send(LOCAL, self._progress((), failure))] if self._first is None else []
                return [*told, *self._hand_out([*self._losses.lose(source, message)])]
            case Returned():
                self._losses.take_back(message)
                return self._hand_out([])
            case SegmentRead(segment, rows):
                if segment not in self._pipeline.open:  # drained while it was being read
                    return []
                again = not self._pipeline.open[segment].owed
                routed = self._routed(segment, rows) if isinstance(rows, Divided) and not again else []
                return [*routed, *self._hand_out(self._take_in(segment, rows))]
            case Written(segments):
                self._pipeline.unwritten.difference_update(segments)
                watcher = LOCAL if self._first is None else self._first
                return [Send(watcher, self._progress(segments)), *self._hand_out([])]
            case Progress():
                return [Send(LOCAL, message)]
            case Bye(tally):
                self._awaited.discard(source)
                if source in self._credits:
                    self.tallies[source] = tally
                return []
            case Drain(reason):
                return self._drain(reason, source)
        raise TypeError(f"the reader has no use for {type(message).__name__} from rank {source}")

    def _progress(self, segments: tuple[int, ...], failure: str = "") -> Progress:
        return Progress(segments, len(self._pipeline.unwritten), self._losses.taken(), failure)

    def _routed(self, segment: int, rows: Divided) -> list[Send]:
        """Let nobody owe what a member does not score of a segment; tell its reducer who scores what."""
        work = self._pipeline.open[segment]
        for device, members in work.owed.items():
            self._forecast.owe(device, members, work.parts, -1)
        work.parts = {m: WHOLE * len(arrays[0]) // len(rows.present) for m, arrays in rows.rows.items()}
        scoring = {device: [m for m in members if m in rows.rows] for device, members in work.owed.items()}
        work.owed = {device: members for device, members in scoring.items() if members}
        for device, members in work.owed.items():
            self._forecast.owe(device, members, work.parts)
        some = tuple(member for member in self._members if member in rows.rows)
        return [Send(turn(segment, self._reducers), Routed(segment, some, rows.present))]

    def _take_in(self, segment: int, rows: Rows | Divided) -> list[int]:
        """Take in the rows of a segment; return the devices that owe something of it, those with most room first."""
        return sorted(self._pipeline.arrive(segment, rows), key=lambda rank: -self._credits[rank])

    def _hand_out(self, devices: Sequence[int]) -> list[Send]:
        """Give these devices, the only ones that can have both room and work, what they owe.

        If nothing else can come, also give every device with room what a busier one will not get to.
        """
        sends: list[Send] = []
        while again := self._losses.next_returned(self._free):
            sends.append(self._send(*again))
        able = deque(devices)
        while able:
            device = able.popleft()
            while self._credits[device] > 0 and self._pipeline.ready.get(device):
                segment = next(iter(self._pipeline.ready[device]))
                work = self._pipeline.open[segment]
                owed = tuple(work.owed[device])
                other = self._forecast.faster_device(device, owed, work.parts, self._pipeline.left)
                if other is None:
                    first = work.rows_of(owed[0])  # those that score other rows of it come as a batch of their own
                    alike = tuple(member for member in owed if work.rows_of(member) is first)
                    sends.append(self._give(device, segment, device, alike))
                else:
                    self._losses.pass_on(segment, device, other, owed)
                    able.append(other)
        sends += self._read_on()
        # Spare work is one member at a time, with those that are run with it, once all is read or all is full.
        while not (self._pipeline.unread or self._pipeline.may_read) and (batch := self._spare()):
            sends += [batch, *self._read_on()]
        return [*sends, *self._end()]

    def _spare(self) -> Send | None:
        """Hand the newest work whose device has no room now to the device with most room that hosts its member.

        What is in memory and still owed is owed by devices without room: those with room have got theirs.
        """
        if not self._free:
            return None
        pipeline = self._pipeline
        for segment, owner, member in pipeline.newest_owed():
            members, parts = self._shares.beside(member, pipeline.owed(segment, owner)), pipeline.open[segment].parts
            able = self._free.intersection(*(self._shares.hosts[each] for each in members))
            if able := {rank for rank in able if self._forecast.may_take(rank, members, parts, owner, pipeline.left)}:
                device = min(able, key=lambda rank: (-self._credits[rank], rank))
                return self._give(device, segment, owner, members)
        return None

    def _give(self, device: int, segment: int, owner: int, members: tuple[str, ...]) -> Send:
        """Hand members that the owner owes of the segment, and that score the same rows, to a device with room.

        Towards the end, the least that is worth a message: a part of the rows of one, or a few of them.
        """
        pipeline = self._pipeline
        work = pipeline.open[segment]
        whole = not (work.begun or pipeline.ending(len(self._credits)))
        cut = self._cuts.next(work, members, device, whole=whole)
        self._losses.count(cut, [member for member in cut.members if member in work.taken])
        self._forecast.owe(owner, members, work.parts, -1)
        self._forecast.hand_out(device, cut.members, cut.take_from(work))
        work.owed[owner] = [member for member in work.owed[owner] if member not in cut.members or cut.leaves_some]
        self._forecast.owe(owner, [member for member in members if member in work.owed[owner]], work.parts)
        if not work.owed[owner]:
            del work.owed[owner]
            del pipeline.ready[owner][segment]
        return self._send(device, segment, cut)

    def _send(self, device: int, segment: int, cut: Cut) -> Send:
        """Send rows of an open segment to a device with room."""
        pipeline = self._pipeline
        rows, slot = cut.of(pipeline.open[segment].rows_of(cut.members[0])), pipeline.slots.hand_out(segment)
        pipeline.close_if_through(segment)
        self._credits[device] -= 1
        if not self._credits[device]:
            self._free.discard(device)
        return Send(device, Batch(segment, cut.members, rows, slot, cut.part))

    def _read_on(self) -> list[Send]:
        sends = []
        while self._pipeline.may_read:
            segment = self._pipeline.todo.popleft()
            owed: dict[int, list[str]] = {}
            for member in self._members if segment not in self._pipeline.returned else ():
                owed.setdefault(self._shares.owner(segment, member), []).append(member)
            parts = self._shares.expected
            for device, members in owed.items():
                self._forecast.owe(device, members, parts)
            self._pipeline.open[segment] = OpenSegment(owed, parts=parts)
            self._losses.require_owners(segment)
            self._pipeline.unread += 1
            self._pipeline.unwritten.add(segment)
            sends.append(Send(LOCAL, Read(segment, self._pipeline.slots.take(segment))))
        return sends

    def _end(self) -> list[Send]:
        """Once nothing is left to hand out, tell the reducers what to wait for; once all is through, devices to go."""
        pipeline = self._pipeline
        if self._finished or pipeline.todo or pipeline.open:
            return []
        self._finished = not self._forecast.under_way  # until then a device may fail, and others have to do its work
        finish = [Send(device, Finish()) for device in self._credits if self._finished]
        if self._last:
            return finish
        self._last = True
        left: dict[int, list[int]] = {reducer: [] for reducer in self._reducers}
        for segment in sorted(pipeline.unwritten):
            left[turn(segment, self._reducers)].append(segment)
        last = [Send(reducer, Last(tuple(segments))) for reducer, segments in left.items()]
        return [*last, *finish]

    def _leave(self, sends: list[Send]) -> list[Send]:
        """Once nothing is left, tell the first reader, and stay to hear of drains until it lets all go."""
        if not self._last or self._pipeline.unwritten or self._awaited or self._gone:
            return sends
        if self._first is not None and not self._reported:
            self._reported = True
            self._awaited.add(self._first)
            return [*sends, Send(self._first, Bye())]
        self._gone = True
        return [*sends, *(Send(reader, Bye()) for reader in self._others)]

    def _drain(self, reason: str, source: int) -> list[Send]:
        """Drop what is not wholly handed out: a segment is finished only if all its members are under way.

        The first reader passes the drain on to the others; another that is drained by its own rank, to the first.
        """
        if self.drained or (self._last and not self._others):
            return []
        self.drained = reason
        readers = (self._first,) if self._first is not None and source == LOCAL else self._others
        drains = [Send(reader, Drain(reason)) for reader in readers]
        if self._last:
            return drains
        self._pipeline.drop()
        return [*drains, *self._end()]
