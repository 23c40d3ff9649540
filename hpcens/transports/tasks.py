"""Hands: what the thread of each role does, bound from plain callables to the tasks it is sent."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NoReturn

from hpcens.transports import Hands
from hpcens.vocabulary import (
    Flush,
    Flushed,
    Message,
    Predict,
    Predicted,
    Progress,
    Read,
    Rows,
    SegmentRead,
    Write,
    Wrote,
)


def reader_hands(read: Callable[[int], Rows], watch: Callable[[Progress], None]) -> Hands:
    """read: segment → its rows; watch: told of every group that became durable."""

    def reading(task: Read) -> Iterator[Message]:
        yield SegmentRead(task.segment, read(task.segment))

    def watching(task: Progress) -> tuple[NoReturn, ...]:
        watch(task)
        return ()

    return Hands({Read: reading, Progress: watching})


def worker_hands(predict: Callable[[Predict], Iterable[Predicted]], stage: Callable[[Message], None]) -> Hands:
    """predict: one answer per member of the task, in its order; stage: begin to bring the rows to the device."""
    return Hands({Predict: predict}, stage)


def reducer_hands(write: Callable[[Write], None], flush: Callable[[tuple[int, ...]], None]) -> Hands:
    """write: combine and write a segment; flush: make these segments durable."""

    def writing(task: Write) -> Iterator[Message]:
        write(task)
        yield Wrote(task.segment)

    def flushing(task: Flush) -> Iterator[Message]:
        flush(task.segments)
        yield Flushed(task.segments)

    return Hands({Write: writing, Flush: flushing})
