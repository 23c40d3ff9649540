"""Extents: which rows of a dataset each of many sources supplies, looked up for the rows of a read at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import h5py
import numpy as np

from hpcens.dataset.selection import Where
from hpcens.vocabulary import Array

_ENDLESS = h5py.h5s.UNLIMITED


class Blocks(NamedTuple):
    """`number` blocks of `size` rows, the first at `first`, each `step` after the one before."""

    first: int
    step: int
    number: int
    size: int

    @property
    def end(self) -> int:
        """The row after the last."""
        return self.first + (self.number - 1) * self.step + self.size if self.number else self.first

    @property
    def rows(self) -> int:
        """Rows in all of its pieces together."""
        return self.number * self.size

    @property
    def in_one(self) -> bool:
        """Whether no row lies between the first and the last that is not one of them."""
        return self.number <= 1 or self.step == self.size


@dataclass(frozen=True, slots=True)
class Slab:
    """A selection of a dataset: the blocks along each axis, before they end where the dataset does; None: all of it.

    Plain numbers: a process that holds thousands of HDF5's own objects is slow to close any file.
    """

    sides: tuple[Blocks, ...] | None

    @property
    def endless(self) -> int | None:
        """The axis along which it has no end; None where it has one."""
        return next((axis for axis, side in enumerate(self.sides or ()) if _ENDLESS in (side.number, side.size)), None)

    @property
    def ends(self) -> tuple[int, ...] | None:
        """Where it ends along each axis; None where it is all of a dataset, or has no end."""
        return None if self.sides is None or self.endless is not None else tuple(side.end for side in self.sides)

    def along(self, axis: int, size: int) -> Blocks:
        """Return what it takes along one axis. size: of the axis."""
        if self.sides is None:
            return Blocks(0, size or 1, 1, size)
        first, step, number, block = self.sides[axis]
        block = max(0, min(block, size - first))
        step = max(step, block, 1)
        return Blocks(first, step, min(number, max(0, -(-(size - first) // step))), block)


def slab_of(space: h5py.h5s.SpaceID) -> Slab:
    """Return a selection as numbers; of an irregular one all between its bounds."""
    kind = space.get_select_type()
    if kind == h5py.h5s.SEL_ALL:
        return Slab(None)
    if kind == h5py.h5s.SEL_NONE:
        return Slab((Blocks(0, 1, 0, 0),) * len(space.shape))
    if kind == h5py.h5s.SEL_HYPERSLABS and space.is_regular_hyperslab():
        return Slab(tuple(map(Blocks, *space.get_regular_hyperslab())))
    bounds = zip(*space.get_select_bounds(), strict=True)
    return Slab(tuple(Blocks(low, high - low + 1, 1, high - low + 1) for low, high in bounds))


class Extents:
    """The rows of many sources, in the order given."""

    def __init__(self, extents: Sequence[Blocks]) -> None:
        table = np.array(extents, np.int64).reshape(-1, 4)
        self._first, self._step, self._number, self._size = table.T
        self._end = self._first + (self._number - 1) * self._step + self._size

    def touched(self, where: Where) -> Array:
        """Return the places of the sources that supply one of these rows, at least."""
        if isinstance(where, slice):
            # of each source the number of the first block that ends above the first row
            number = np.maximum(0, (where.start - self._first - self._size) // self._step + 1)
            start = self._first + number * self._step
            return np.flatnonzero((number < self._number) & (start < where.stop))
        rows = np.sort(where)
        return np.flatnonzero(np.searchsorted(rows, self._first) < np.searchsorted(rows, self._end))
