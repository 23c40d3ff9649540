"""Readers, reducers and devices wired together in virtual time, with what must hold of every run checked in each."""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from itertools import product

import numpy as np

from hpcens.errors import DeviceFailed
from hpcens.roles.dispatch import Shares, turn
from hpcens.roles.reader import Reader
from hpcens.roles.reducer import Reducer
from hpcens.roles.worker import Worker
from hpcens.transports import Role
from hpcens.transports.tasks import reader_tasks, reducer_tasks, worker_tasks
from hpcens.transports.virtual import Latency, Post, VirtualWorld
from hpcens.vocabulary import (
    LOCAL,
    Batch,
    Divided,
    Drain,
    Failed,
    Flush,
    Last,
    Message,
    Predict,
    Predicted,
    Progress,
    Read,
    Returned,
    Rows,
    SegmentRead,
    Send,
    Write,
    Written,
)


class Wiring:
    """All roles of one round, each with its tasks, in a world of virtual time.

    Checked while it runs: a segment is read once, by the reader whose turn it is; each row of a (segment, member) is
    handed out and predicted once, unless a device that failed has returned it; a device that failed is handed nothing
    more, once its reader has heard of it; a segment is written once, by the reducer whose turn it is, made durable once
    and reported once, in that order; no reader has more than `window` segments read and not durable, nor more than
    `read_ahead` in memory; nothing is delivered to a role that is done; no slot is read into before whoever was given
    rows in it is through with them. Checked at its end: all segments are through, or it was drained, and whatever was
    written is durable and reported.

    segments    what is to be scored
    members     member names, in the order in which they are combined
    shares      of the devices in each member
    devices     ranks of the devices
    read        segment → its rows
    predict     a task → one answer per member of it
    write       reducer's rank, task: combine and write a segment
    flush       reducer's rank, segments: make them durable
    watch       told of what is durable, as the first reader is
    rooms       device → segments for which it has room at first
    latency     seconds until a message arrives or a task is done
    slots       of each reader's memory, filled with other bytes before they are read into; None: rows of their own;
                0: as many as can be in use at once
    messages    devices that share no memory with readers and get copies
    batches     member → rows of its batches, at whose bounds the last segments are cut; None: they are not
    scores      segment → the members that score some of its rows, where `read` divides them; None: all score all
    failing     device → predictions that it makes before it fails for good; negative: it has failed before
    """

    def __init__(
        self,
        *,
        segments: Sequence[int],
        members: Sequence[str],
        shares: Shares,
        devices: Collection[int],
        read: Callable[[int], Rows | Divided],
        predict: Callable[[Predict], Iterable[Predicted]],
        write: Callable[[int, Write], None],
        flush: Callable[[int, tuple[int, ...]], None] = lambda rank, segments: None,
        watch: Callable[[Progress], None] = lambda progress: None,
        readers: Sequence[int] = (0,),
        reducers: Sequence[int] = (1,),
        window: int = 4,
        read_ahead: int = 3,
        seconds: float = 5.0,
        rooms: Mapping[int, int] | None = None,
        latency: Latency = lambda rank, to, message: 0.1 * rank,
        post: Post = "held",
        scores: Callable[[int], Collection[str]] | None = None,
        slots: int | None = 0,
        messages: Collection[int] = (),
        batches: Mapping[str, int] | None = None,
        failing: Mapping[int, int] | None = None,
    ) -> None:
        self._failing = dict(failing or {})
        self._heard, self.taken, self.returned, self.failures = set(), 0, 0, []
        self._scores = scores or (lambda segment: members)
        most = read_ahead + (sum(rooms.values()) if rooms else 2 * len(devices))
        self._segments = list(segments)
        self._members = tuple(members)
        self._turns = {"reader": tuple(readers), "reducer": tuple(reducers)}
        self._window, self._read_ahead = window, read_ahead
        # What has happened, each as often as it did: keys are segments, or segments with a member.
        self.read, self.predicted, self.rows = Counter(), Counter(), Counter()
        self.written, self.durable, self.told = Counter(), Counter(), Counter()
        self._out = {}  # (segment, member) → places of the rows that are handed out and not returned, and of how many
        self._unwritten = {rank: set() for rank in readers}
        self._in_memory = {rank: set() for rank in readers}
        self.readers = {
            rank: Reader(
                segments=[segment for segment in segments if turn(segment, readers) == rank],
                members=members,
                shares=shares,
                devices=devices,
                reducers=reducers,
                first=None if rank == readers[0] else readers[0],
                others=readers[1:] if rank == readers[0] else (),
                window=window,
                read_ahead=read_ahead,
                slots=most if slots == 0 else slots,
                batches=batches,
            )
            for rank in readers
        }
        self.reducers = {
            rank: Reducer(
                members=members,
                devices=devices,
                readers=readers,
                reducers=len(reducers),
                window=window,
                seconds=seconds,
                routed=scores is not None,
            )
            for rank in reducers
        }
        workers = {
            rank: Worker(
                readers=readers,
                reducers=reducers,
                shares=() if rank in messages else readers,
                failed=_failed(rank) if self._failing.get(rank, 0) < 0 else None,
                **({"room": rooms[rank]} if rooms else {}),
            )
            for rank in devices
        }
        sees = dict.fromkeys(readers, self._see_reader) | dict.fromkeys(reducers, self._see_reducer)
        roles = {
            rank: _Watched(role, partial(sees.get(rank, self._see_device), rank))
            for rank, role in {**self.readers, **self.reducers, **workers}.items()
        }
        tasks = {
            **{
                rank: reader_tasks(partial(self._read, read, {}), partial(self._report, rank, watch))
                for rank in readers
            },
            **{rank: reducer_tasks(partial(write, rank), partial(self._flush, rank, flush)) for rank in reducers},
            **{rank: worker_tasks(partial(self._predict, rank, predict), lambda task: None) for rank in devices},
        }
        shared = set(product(readers, set(devices) - set(messages)))
        self.world = VirtualWorld(roles, tasks, latency, post, shared)

    def drain(self, rank: int, moment: float, reason: str) -> None:
        """Tell a reader to stop, at a moment of virtual time."""
        self.world._at(moment, lambda: self.world._offer(rank, LOCAL, Drain(reason)))

    def run(self) -> None:
        """Until all roles are done. Raises what the world or a task raises."""
        self.world.run()
        assert set(self.written) <= set(self._segments)
        assert set(self.durable) == set(self.written), "written, and not made durable"
        assert set(self.told) == set(self.durable), "durable, and not reported"
        if not any(reader.drained for reader in self.readers.values()):
            assert set(self.written) == set(self._segments), "left out"
            assert set(self.predicted) == {(segment, m) for segment in self._segments for m in self._scores(segment)}

    def _predict(self, rank: int, predict: Callable[[Predict], Iterable[Predicted]], task: Predict):
        for predicted in predict(task):
            if rank in self._failing:
                if self._failing[rank] < 1:
                    raise DeviceFailed(_failed(rank).failure, _failed(rank).node)
                self._failing[rank] -= 1
            yield predicted

    def _handed(self, segment: int, member: str) -> bool:
        """Whether all rows of a segment that the member scores are handed out."""
        places, whole = self._out.get((segment, member), (set(), -1))
        return len(places) == whole

    def _see_reader(self, rank: int, message: Message | None, source: int, sends: list[Send]) -> None:
        unwritten, in_memory = self._unwritten[rank], self._in_memory[rank]
        if isinstance(message, Written):
            unwritten.difference_update(message.segments)
        if isinstance(message, SegmentRead) and not self._scores(message.segment):
            in_memory.discard(message.segment)
        if isinstance(message, Failed):
            self._heard.add((rank, source))
        if isinstance(message, Returned):
            if message.segment not in in_memory and message.segment in unwritten:
                del self.read[message.segment]  # to be read again
            start = message.part.start if message.part is not None else 0
            for member in message.members:
                places, whole = self._out[message.segment, member]
                back = set(range(start, start + message.rows))
                assert back <= places, "returned, and not handed out"
                self._out[message.segment, member] = places - back, whole
            self.returned += message.rows * len(message.members)
        for send in sends:
            match send.message:
                case Read(segment):
                    self._happens(self.read, segment, "read")
                    assert rank == turn(segment, self._turns["reader"]), f"segment {segment} is another reader's"
                    unwritten.add(segment)
                    in_memory.add(segment)
                case Last(segments):  # a drain has dropped the others
                    dropped = {s for s in unwritten if turn(s, self._turns["reducer"]) == send.to} - {*segments}
                    in_memory -= dropped
                case Batch(segment, members, rows, _, part):
                    assert (rank, send.to) not in self._heard, f"device {send.to} has failed"
                    start, whole = (part.start, part.whole) if part is not None else (0, len(rows[0]))
                    for member in members:
                        now, places = set(range(start, start + len(rows[0]))), set()
                        if (segment, member) in self._out:
                            places, _ = self._out[segment, member]
                        assert not now & places, f"rows of {segment, member} were handed out twice"
                        self._out[segment, member] = places | now, whole
                    if all(self._handed(segment, member) for member in self._scores(segment)):
                        in_memory.discard(segment)
        assert len(unwritten) <= self._window, f"reader {rank} exceeds its window"
        assert len(in_memory) <= self._read_ahead, f"reader {rank} exceeds its read-ahead"

    def _see_device(self, rank: int, message: Message | None, source: int, sends: list[Send]) -> None:
        if isinstance(message, Predicted):
            part = message.part
            for row in range(len(message.values)) if part is not None else [None]:
                place = row if row is None else part.start + row
                self._happens(self.rows, (message.segment, message.member, place), "predicted")
            self.predicted[message.segment, message.member] += 1

    def _see_reducer(self, rank: int, message: Message | None, source: int, sends: list[Send]) -> None:
        for send in sends:
            match send.message:
                case Write(segment, stack):
                    self._happens(self.written, segment, "written")
                    assert rank == turn(segment, self._turns["reducer"]), f"segment {segment} is another reducer's"
                    assert len(stack) == len(self._scores(segment))
                case Flush(segments):
                    assert set(segments) <= set(self.written), "flushed before it was written"
                case Written(segments):
                    assert set(segments) <= set(self.durable), "reported before it was durable"

    @staticmethod
    def _read(read: Callable[[int], Rows | Divided], memory: dict, segment: int, slot: int | None) -> Rows | Divided:
        """Read rows; where there is a slot, into it. memory: of the reader, a slot's arrays by their place."""
        rows = read(segment)
        if slot is None:
            return rows
        for array in memory.get(slot, {}).values():
            array.reshape(-1).view(np.uint8).fill(0xFF)
        arrays = memory.setdefault(slot, {})

        def put(whole: Rows, group: int = 0) -> Rows:
            kinds = [(array.shape, array.dtype.str, group, i) for i, array in enumerate(whole)]
            for kind, array in zip(kinds, whole, strict=True):
                arrays.setdefault(kind, np.empty_like(array))[...] = array
            return tuple(arrays[kind] for kind in kinds)

        if isinstance(rows, Divided):
            distinct = {id(some): some for some in rows.rows.values()}
            lying = {key: put(some, group) for group, (key, some) in enumerate(distinct.items())}
            return Divided({member: lying[id(some)] for member, some in rows.rows.items()}, rows.present)
        return put(rows)

    def _flush(self, rank: int, flush: Callable[[int, tuple[int, ...]], None], segments: tuple[int, ...]) -> None:
        flush(rank, segments)
        for segment in segments:
            self._happens(self.durable, segment, "made durable")

    def _report(self, rank: int, watch: Callable[[Progress], None], progress: Progress) -> None:
        assert rank == self._turns["reader"][0], "only the first reader tells whoever watches"
        for segment in progress.segments:
            assert segment in self.durable, "reported before it was durable"
            self._happens(self.told, segment, "reported")
        self.taken += progress.taken
        self.failures += [progress.failure] * bool(progress.failure)
        watch(progress)

    @staticmethod
    def _happens(counter: Counter, what: object, verb: str) -> None:
        counter[what] += 1
        assert counter[what] == 1, f"{what} was {verb} twice"


def _failed(rank: int) -> Failed:
    return Failed(f"device {rank} of n{rank} failed", f"n{rank}")


class _Watched:
    """A role, and someone who sees each message that it takes, and what it sends for it."""

    def __init__(self, role: Role, see: Callable[[Message | None, int, list[Send]], None]) -> None:
        self._role = role
        self._see = see

    @property
    def done(self) -> bool:
        return self._role.done

    def start(self) -> list[Send]:
        sends = self._role.start()
        self._see(None, LOCAL, sends)
        return sends

    def handle(self, message: Message, source: int) -> list[Send]:
        assert not self._role.done, f"{type(message).__name__} from rank {source} came after the end"
        sends = self._role.handle(message, source)
        self._see(message, source, sends)
        return sends
