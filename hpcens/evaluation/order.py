"""Order statistics of any number of rows: exact, in as many passes as it takes to keep few of them.

The bits of floats that are not negative are ordered as they are, so each pass but the last counts by the next twelve
bits and goes on where the rank lies, until what is left fits into memory.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hpcens.rules import Doubles
from hpcens.vocabulary import Array

_KEPT = 1 << 24  # numbers, of all columns together
_STEP = 12  # bits a pass
_BITS = 64


class OrderStatistics:
    """The numbers of some ranks, one a column, of numbers that come in chunks and are not negative.

    columns  how many there are
    A pass is `add` for every chunk, then `end_pass`; `done` says whether another is needed.
    """

    def __init__(self, columns: int) -> None:
        self._most = max(1, _KEPT // columns)
        self._prefix = np.zeros(columns, np.uint64)
        self._bits = 0
        self._ranks: list[int] = []
        self._found: list[float | None] = [None] * columns
        self._begin()

    def _begin(self) -> None:
        columns = len(self._found)
        self._counts = np.zeros((columns, 1 << _STEP), np.int64)
        self._kept: list[list[Array] | None] = [[] for _ in range(columns)]

    @property
    def counts(self) -> list[int]:
        """How many numbers each column had in the pass that is under way."""
        return [int(count) for count in self._counts.sum(1)]

    @property
    def done(self) -> bool:
        """Whether every number is known."""
        return None not in self._found

    @property
    def values(self) -> tuple[float, ...]:
        """The numbers, once done."""
        return tuple(value for value in self._found if value is not None)

    def add(self, numbers: Doubles) -> None:
        """Add a chunk, (numbers, columns); NaN does not count."""
        for column, of_column in enumerate(numbers.T):
            keys = np.ascontiguousarray(of_column[~np.isnan(of_column)]).view(np.uint64)
            if self._bits:
                keys = keys[keys >> np.uint64(_BITS - self._bits) == self._prefix[column]]
            step = min(_STEP, _BITS - self._bits)
            below = keys >> np.uint64(_BITS - self._bits - step) & np.uint64((1 << step) - 1)
            self._counts[column] += np.bincount(below.astype(np.int64), minlength=1 << _STEP)
            kept = self._kept[column]
            if kept is not None:
                kept.append(keys)
                if self._counts[column].sum() > self._most:
                    self._kept[column] = None

    def end_pass(self, ranks: Sequence[int]) -> None:
        """Close a pass. ranks: wanted of each column, from 1 for the smallest; looked at after the first pass only."""
        self._ranks = self._ranks or list(ranks)
        step = min(_STEP, _BITS - self._bits)
        for column, kept in enumerate(self._kept):
            if self._found[column] is not None:
                continue
            rank = self._ranks[column]
            if kept is not None:
                self._found[column] = float(np.sort(np.concatenate(kept))[rank - 1 : rank].view(np.float64)[0])
                continue
            upto = np.cumsum(self._counts[column])
            place = int(np.searchsorted(upto, rank))
            self._ranks[column] = rank - int(upto[place] - self._counts[column][place])
            self._prefix[column] = (self._prefix[column] << np.uint64(step)) | np.uint64(place)
            if self._bits + step == _BITS:
                self._found[column] = float(self._prefix[column : column + 1].view(np.float64)[0])
        self._bits += step
        self._begin()
