"""What the thread of each role does, bound from plain callables to the tasks it is sent."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

from hpcens.errors import DeviceFailed
from hpcens.transports.outstanding import Outstanding
from hpcens.vocabulary import (
    OUTPUTS_HELD,
    Divided,
    Failed,
    Flush,
    Flushed,
    Message,
    Predict,
    Predicted,
    Progress,
    Read,
    Released,
    Returned,
    Rows,
    SegmentRead,
    Unable,
    Write,
    Wrote,
)


def _ignore(task: Message) -> None:
    pass


def _go_on() -> bool:
    return False


@dataclass(frozen=True, slots=True)
class Tasks:
    """What a rank's own thread can do.

    handlers  type of a task → a callable that does it and yields its answers
    prepare   called with a task when it is queued, before its turn: may begin a transfer, must not block
    pause     called after each answer: waits while too much is handed over, and returns whether it had to
    """

    handlers: Mapping[type, Callable[[Any], Iterable[Message]]] = field(default_factory=dict)
    prepare: Callable[[Message], None] = _ignore
    pause: Callable[[], bool] = _go_on

    def run(self, task: Message) -> Iterable[Message]:
        """Do a task; return its answers as they come."""
        return self.handlers[type(task)](task)


def reader_tasks(read: Callable[[int, int | None], Rows | Divided], report: Callable[[Progress], None]) -> Tasks:
    """Return the tasks of a reader.

    read    segment, slot or None → its rows, in the slot or memory of their own, divided where members do not score all
    report  called with every group that became durable
    """

    def on_read(task: Read) -> Iterator[Message]:
        yield SegmentRead(task.segment, read(task.segment, task.slot))

    def on_progress(task: Progress) -> tuple[NoReturn, ...]:
        report(task)
        return ()

    return Tasks({Read: on_read, Progress: on_progress})


def worker_tasks(
    predict: Callable[[Predict], Iterable[Predicted]],
    stage: Callable[[Message], None],
    most: int | None = OUTPUTS_HELD,
) -> Tasks:
    """Return the tasks of a device.

    predict  one answer per member of the task; raises DeviceFailed, naming a node, where another device may do the rest
    stage    begin to bring the rows of a task to the device
    most     bytes of outputs that may be on their way while the next are computed; None: however many
    """
    outstanding = None if most is None else Outstanding(most)

    def on_predict(task: Predict) -> Iterator[Message]:
        left = list(task.members)
        try:
            for predicted in predict(task) if outstanding is None else outstanding.counted(predict(task)):
                left.remove(predicted.member)
                yield predicted
        except DeviceFailed as failure:
            if not failure.node:
                raise
            if left:
                returned = Returned(task.segment, tuple(left), len(task.rows[0]), task.part)
                yield Unable(Failed(failure.what, failure.node), returned)
        if task.slot is not None:  # not before: a batch may be run again, and rows be looked at once more
            yield Released(task.slot)

    return Tasks({Predict: on_predict}, stage, _go_on if outstanding is None else outstanding.wait)


def reducer_tasks(write: Callable[[Write], None], flush: Callable[[tuple[int, ...]], None]) -> Tasks:
    """Return the tasks of a reducer.

    write  combine and write a segment
    flush  make these segments durable
    """

    def on_write(task: Write) -> Iterator[Message]:
        write(task)
        yield Wrote(task.segment)

    def on_flush(task: Flush) -> Iterator[Message]:
        flush(task.segments)
        yield Flushed(task.segments)

    return Tasks({Write: on_write, Flush: on_flush})
