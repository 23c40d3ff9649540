"""The device worker: keeps its device busy, one segment ahead, and passes on what it predicts."""

from __future__ import annotations

from hpcens.messages import (
    LOCAL,
    Batch,
    Bye,
    Drain,
    Finish,
    MemberTally,
    Message,
    Predict,
    Predicted,
    Prediction,
    Ready,
    Send,
    Tally,
)


class Worker:
    """Sans-I/O. `room` segments may be with it at once: one computes while the next arrives."""

    def __init__(self, *, reader: int, reducer: int, room: int = 2) -> None:
        self._reader = reader
        self._reducer = reducer
        self._room = room
        self._owed: dict[tuple[int, int], int] = {}
        self._queue: list[tuple[int, int]] = []
        self._finish = False
        self._tally: dict[str, MemberTally] = {}
        self.done = False

    def start(self) -> list[Send]:
        return [Send(self._reader, Ready(self._room))]

    def handle(self, message: Message, source: int) -> list[Send]:
        match message:
            case Batch(segment, members, rows):
                self._queue.append((segment, len(members)))
                return [Send(LOCAL, Predict(segment, members, rows))]
            case Predicted(segment, member, values, batch, seconds, bad):
                known = self._tally.get(member, MemberTally())
                self._tally[member] = MemberTally(known.rows + len(values), known.seconds + seconds)
                return [Send(self._reducer, Prediction(segment, member, values, batch, bad)), *self._count()]
            case Finish():
                self._finish = True
                return self._leave()
            case Drain():
                return []  # the reader decides what is still finished
        raise TypeError(f"a device has no use for {type(message).__name__} from rank {source}")

    def _count(self) -> list[Send]:
        """The thread works in order: a prediction belongs to the oldest batch."""
        segment, left = self._queue[0]
        if left > 1:
            self._queue[0] = segment, left - 1
            return []
        del self._queue[0]
        return [Send(self._reader, Ready(1)), *self._leave()]

    def _leave(self) -> list[Send]:
        if not self._finish or self._queue:
            return []
        self.done = True
        bye = Bye(Tally(self._tally))
        return [Send(self._reducer, bye), Send(self._reader, bye)]
