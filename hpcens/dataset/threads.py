"""Threads of a reader: they read a range of a file in parts at once, and decompress chunks."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor, wait

from hpcens.dataset.direct import Piece, read_at

MOST_THREADS = 4
"""That decompress, where it was not measured how many read fastest."""
_MOST_MEASURED = 16
_LEAST_BYTES, _ALIGNMENT = 1 << 20, 1 << 12  # of a part: below, a thread costs more than it gains


class Threads:
    """Threads of one pool: as many as were measured to read fastest, but no more than this process has cores."""

    def __init__(self, count: int | None = None) -> None:
        """Start the pool. count: that was measured; None: several decompress, and one reads what is not compressed."""
        self._pool = self._start(count)

    def _start(self, count: int | None) -> ThreadPoolExecutor:
        self.decompressing = min(count or MOST_THREADS, _cores())
        self._reading = min(count or 1, _cores())
        return ThreadPoolExecutor(self.decompressing, "read")

    @property
    def pool(self) -> Executor:
        """Of the threads that decompress, so many at once."""
        return self._pool

    def use(self, count: int | None) -> None:
        """Use so many threads from now on, see the constructor; wait for what is under way."""
        self._pool.shutdown()
        self._pool = self._start(count)

    def read(self, descriptor: int, pieces: Sequence[Piece]) -> None:
        """Read pieces of a file, parts of them at once. Raises OSError where it ends before one of them."""
        size = sum(len(into) for _, into in pieces)
        count = max(1, min(self._reading, size // _LEAST_BYTES))
        own, *others = parts(pieces, -(-size // (count * _ALIGNMENT)) * _ALIGNMENT)
        begun = [self._pool.submit(_read, descriptor, part) for part in others]
        try:
            _read(descriptor, own)
        finally:
            wait(begun)  # nobody else writes there once this has failed
        for part in begun:
            part.result()

    def close(self) -> None:
        """End the threads; drop what is still to be read."""
        self._pool.shutdown(cancel_futures=True)


def thread_counts() -> tuple[int, ...]:
    """Return the numbers of threads to try: powers of two, up to the cores of this process."""
    most = min(_MOST_MEASURED, _cores())
    return tuple(1 << power for power in range(most.bit_length()))


def parts(pieces: Sequence[Piece], size: int) -> Iterator[list[Piece]]:
    """Divide pieces of a file among parts of so many bytes; the last may have fewer. There is always one."""
    part: list[Piece] = []
    room = size
    for offset, into in pieces:
        while len(into) > room:
            part.append((offset, into[:room]))
            yield part
            offset, into, part, room = offset + room, into[room:], [], size
        part.append((offset, into))
        room -= len(into)
    yield part


def _read(descriptor: int, pieces: Sequence[Piece]) -> None:
    for offset, into in pieces:
        read_at(descriptor, offset, into)


def _cores() -> int:
    return len(os.sched_getaffinity(0))
