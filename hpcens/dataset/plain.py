"""Plain tables: of which nothing is compressed, or that are virtual. Any row of them is read alone."""

from __future__ import annotations

import math
from collections.abc import Sequence

import h5py
import numpy as np

from hpcens.dataset.chunks import WholeRows, whole_rows_of
from hpcens.dataset.direct import direct_of
from hpcens.dataset.hdf5 import unreadable
from hpcens.dataset.inputs import Target
from hpcens.dataset.selection import Where, ascending, pieces
from hpcens.dataset.threads import Threads
from hpcens.dataset.types import dtype_of, read_region, untyped_fields
from hpcens.vocabulary import Array

_GAP_BYTES = 64 << 10  # read in the time that one more call takes
_PIECE_BYTES = 8 << 20


def rows_first(values: Sequence[int], axis: int) -> tuple[int, ...]:
    """Return what belongs to the axes of a dataset, that of its rows first."""
    return values[axis], *values[:axis], *values[axis + 1 :]


class Plain:
    """A table of which nothing is compressed (or that is virtual): the file is read, or the HDF5 library reads it."""

    def __init__(
        self,
        dataset: h5py.Dataset,
        axis: int,
        threads: Threads | None = None,
        end: int = 0,
        *,
        row_bytes: int | None = None,
    ) -> None:
        """Read a dataset.

        axis       that of the rows
        threads    that read past the library; None: it reads all
        end        rows from here on will not be asked for
        row_bytes  of a row, where its shape and type do not say
        """
        self._dataset = dataset
        self._axis = axis
        self._dtype = dtype_of(dataset)
        self._threads = threads
        self._direct = None if axis or threads is None else direct_of(dataset) or whole_rows_of(dataset, end)
        self._partly = bool(untyped_fields(dataset))
        stated = math.prod(rows_first(dataset.shape, axis)[1:]) * self._dtype.itemsize
        self._row_bytes = max(1, stated if row_bytes is None else row_bytes)

    def read(self, where: Where, targets: Sequence[Target]) -> None:
        """Fill every target with these rows. Raises DataError naming those that cannot be read."""
        if isinstance(where, slice):
            for field, out in targets:
                self._read(where.start, where.stop, field, out)
            return
        rows, places = ascending(where)
        gap, most = (max(1, size // self._row_bytes) for size in (_GAP_BYTES, _PIECE_BYTES))
        for begin, end in pieces(rows, gap, most):
            start, stop = int(rows[begin]), int(rows[end - 1]) + 1
            for field, out in targets:
                piece = np.empty((stop - start, *out.shape[1:]), out.dtype)
                self._read(start, stop, field, piece)
                out[places[begin:end]] = piece[rows[begin:end] - start]

    def find_chunks(self) -> None:
        """Find once where the chunks lie."""
        if isinstance(self._direct, WholeRows):
            self._direct.find_chunks()

    def _read(self, start: int, stop: int, field: str | None, out: Array) -> None:
        try:
            direct = self._direct if field is None else None
            pieces = None if direct is None else direct.pieces(start, out)
            if self._threads is not None and direct is not None and pieces is not None:
                self._threads.read(direct.descriptor, pieces)
            elif field is None and self._dtype.subdtype is None and not self._axis:
                self._dataset.read_direct(out, np.s_[start:stop])
            else:
                region = (*(slice(None),) * self._axis, slice(start, stop))
                if self._partly:
                    rows = read_region(self._dataset, region)[field]
                else:
                    rows = (self._dataset if field is None else self._dataset.fields(field))[region]
                out[...] = np.moveaxis(rows, self._axis, 0)
        except Exception as error:  # HDF5's errors come as half a dozen types
            raise unreadable(self._dataset, start, stop, error) from None
