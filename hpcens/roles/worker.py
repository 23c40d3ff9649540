"""The device worker: keeps its device busy, one segment ahead, and passes on what it predicts."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from hpcens.roles.dispatch import turn
from hpcens.vocabulary import (
    LOCAL,
    Batch,
    Bye,
    Drain,
    Failed,
    Finish,
    MemberTally,
    Message,
    Predict,
    Predicted,
    Prediction,
    Ready,
    Released,
    Send,
    Tally,
    Unable,
)


@dataclass(slots=True)
class _Task:
    """A batch that is not yet predicted.

    reader  rank that sent it
    left    number of its members that are not predicted, and the release of its rows where they lie in a slot
    """

    reader: int
    left: int


def room_of(readers: int) -> int:
    """Return the segments that each of so many readers may have with a device at once."""
    return 2 if readers == 1 else 1


class Worker:
    """Run batches on the device: one segment computes while the next arrives. Sans-I/O.

    readers   ranks of the readers
    reducers  ranks of the reducers, in the order of their turns
    room      segments that each reader may have with this device at once, at least 1: a reader that may send none
              here could keep another device waiting for ever
    shares    ranks of the readers from whose memory rows are read; others send a copy
    failed    what became of the device before; None: it works
    """

    def __init__(
        self,
        *,
        readers: Sequence[int],
        reducers: Sequence[int],
        room: int | None = None,
        shares: Collection[int] = (),
        failed: Failed | None = None,
    ) -> None:
        self._readers = tuple(readers)
        self._reducers = tuple(reducers)
        self._room = room or room_of(len(self._readers))
        self._queue: deque[_Task] = deque()
        self._shares = frozenset(shares)
        self._open = set(readers)
        self._tally: dict[str, MemberTally] = {}
        self._failed = failed
        self.done = False

    def start(self) -> list[Send]:
        """Tell every reader how much room there is, or that there is none for good."""
        return [Send(reader, self._failed or Ready(self._room)) for reader in self._readers]

    def handle(self, message: Message, source: int) -> list[Send]:
        """Take in a message of the protocol."""
        match message:
            case Batch(segment, members, rows, slot, part):
                if slot is None or source in self._shares:
                    self._queue.append(_Task(source, len(members) + (slot is not None)))
                    return [Send(LOCAL, Predict(segment, members, rows, slot, part))]
                self._queue.append(_Task(source, len(members)))
                return [Send(source, Released(slot)), Send(LOCAL, Predict(segment, members, rows, part=part))]
            case Predicted(segment, member, values, batch, seconds, bad, part):
                self._tally[member] = self._tally.get(member, MemberTally()) + MemberTally(len(values), seconds)
                prediction = Prediction(segment, member, values, batch, bad, part)
                return [Send(turn(segment, self._reducers), prediction), *self._count()]
            case Unable(failed, returned):
                tell = () if self._failed else self._readers
                self._failed = failed
                back = Send(self._queue[0].reader, returned)
                return [*(Send(reader, failed) for reader in tell), back, *self._count(len(returned.members))]
            case Released():
                return [Send(self._queue[0].reader, message), *self._count()]
            case Finish():
                self._open.discard(source)
                spare = len(self._readers) > len(self._open) == 1  # one alone is to keep the device busy
                return [*(Send(reader, Ready(1, further=True)) for reader in self._open if spare), *self._leave()]
            case Drain():
                return []  # the reader decides what is still finished
        raise TypeError(f"a device has no use for {type(message).__name__} from rank {source}")

    def _count(self, answers: int = 1) -> list[Send]:
        """Count what is through of the oldest batch: the thread works in order."""
        task = self._queue[0]
        task.left -= answers
        if task.left:
            return []
        self._queue.popleft()
        return [Send(task.reader, Ready(1)), *self._leave()]

    def _leave(self) -> list[Send]:
        """Say goodbye once every reader has finished and nothing is left to predict."""
        if self._open or self._queue:
            return []
        self.done = True
        bye = Bye(Tally(self._tally))
        return [Send(rank, bye) for rank in (*self._reducers, *self._readers)]
