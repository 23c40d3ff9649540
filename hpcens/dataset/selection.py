"""Selection: which rows of a file are scored, found by their place among those that are selected."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from hpcens.vocabulary import Array

Where = slice | Array
"""Rows of a file: a range, or their numbers in the order wanted."""

_BLOCK = 1 << 20

Read = Callable[[int, int], Array]
"""Takes (start, stop), returns these elements of a one-dimensional HDF5 dataset."""


class Selection(Protocol):
    """Some rows of a file, `rows` in number."""

    @property
    def rows(self) -> int:
        """Number of rows that are selected."""

    def where(self, start: int, stop: int) -> Where:
        """Return the rows of the file that are selected as the start-th up to the stop-th."""


@dataclass(frozen=True, slots=True)
class Span:
    """The rows from `start` up to `stop`."""

    start: int
    stop: int

    @property
    def rows(self) -> int:
        """Number of rows that are selected."""
        return max(0, self.stop - self.start)

    def where(self, start: int, stop: int) -> slice:
        """Return where in the file the selected rows from `start` up to `stop` lie."""
        return slice(self.start + start, self.start + stop)


class Marked:
    """Rows whose place in a boolean mask is true, in the order of the file. Holds one number per million rows."""

    def __init__(self, read: Read, length: int) -> None:
        self._read = read
        self._length = length
        counts = [int(np.count_nonzero(read(a, min(a + _BLOCK, length)))) for a in range(0, length, _BLOCK)]
        self._before = np.cumsum([0, *counts], dtype=np.int64)
        self._last_block: tuple[int, Array] = (-1, np.empty(0, np.int64))

    @property
    def rows(self) -> int:
        """Number of rows that are selected."""
        return int(self._before[-1])

    def where(self, start: int, stop: int) -> Where:
        """Return where in the file the selected rows from `start` up to `stop` lie."""
        first = int(np.searchsorted(self._before, start, "right")) - 1
        last = int(np.searchsorted(self._before, stop, "left"))
        marked = np.concatenate([self._block(i) for i in range(first, last)])
        skipped = int(self._before[first])
        rows = marked[start - skipped : stop - skipped]
        return slice(int(rows[0]), int(rows[-1]) + 1) if rows[-1] - rows[0] + 1 == len(rows) else rows

    def _block(self, block: int) -> Array:
        if self._last_block[0] != block:
            start = block * _BLOCK
            marks = self._read(start, min(start + _BLOCK, self._length))
            self._last_block = block, np.flatnonzero(marks) + start
        return self._last_block[1]


@dataclass(frozen=True, slots=True)
class Listed:
    """Rows named by number, in the order listed; the list stays in its file."""

    read: Read
    rows: int

    def where(self, start: int, stop: int) -> Where:
        """Return where in the file the selected rows from `start` up to `stop` lie."""
        rows: Array = self.read(start, stop).astype(np.int64)
        return rows


def pieces(rows: Array, gap: int, most: int) -> Iterator[tuple[int, int]]:
    """Cut ascending row numbers into pieces (from, to) that are read at once.

    gap   rows between two that are rather read than left out
    most  rows that a piece may span
    """
    start = 0
    for cut in [*(np.flatnonzero(np.diff(rows) > gap) + 1).tolist(), len(rows)]:
        while start < cut:
            stop = min(cut, start + int(np.searchsorted(rows[start:cut], rows[start] + most, "left")))
            yield start, stop
            start = stop


def ascending(where: Array) -> tuple[Array, Any]:
    """Return the rows in ascending order, and where each stood."""
    if len(where) < 2 or bool((np.diff(where) >= 0).all()):
        return where, np.arange(len(where))
    order = np.argsort(where)
    return where[order], order
