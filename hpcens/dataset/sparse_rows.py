"""Dense rows of a sparse matrix: of one compressed by rows as they are read, of one by columns from a turned copy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from hpcens.dataset.guard import Guarded
from hpcens.dataset.inputs import Input, Table, Target
from hpcens.dataset.selection import Where, ascending, pieces
from hpcens.dataset.types import dtype_of
from hpcens.errors import DataError
from hpcens.vocabulary import Array

_MOST_NUMBERS = 1 << 22  # that are read at once
_DAMAGED = "the file is damaged there: copy it again"


class Matrix(Protocol):
    """What is read: see `sparse.SparseInput`."""

    @property
    def facts(self) -> Input:
        """Its rows in memory."""

    @property
    def parts(self) -> Mapping[str, Guarded]:
        """Its arrays `data`, `indices` and `indptr`."""

    @property
    def rows(self) -> int:
        """Number of rows in the file."""

    @property
    def where(self) -> str:
        """File and group, for messages."""


def starts_of(matrix: Matrix, start: int, stop: int) -> Array:
    """Return at which number each of these rows begins, and the last ends. Raises DataError where they cannot."""
    starts = matrix.parts["indptr"].read_rows(start, stop + 1).astype(np.int64)
    if starts[0] < 0 or (np.diff(starts) < 0).any() or starts[-1] > matrix.parts["data"].rows:
        raise DataError(f"{matrix.where}/indptr: rows {start}–{stop - 1} do not begin one after another", _DAMAGED)
    return starts


def require_inside(matrix: Matrix, indices: Array, across: int, first: int) -> None:
    """Raise DataError where an index is none of a row's. first: number of the first, for messages."""
    wrong = np.flatnonzero((indices < 0) | (indices >= across))
    if len(wrong):
        at = int(wrong[0])
        what = f"{matrix.where}/indices[{first + at}] is {indices[at]}, and there are 0–{across - 1}"
        raise DataError(what, _DAMAGED)


class SparseRows:
    """The rows of a matrix compressed by rows."""

    def __init__(self, matrix: Matrix, numbers: Mapping[str, Table]) -> None:
        self._matrix = matrix
        self._numbers = numbers

    def read(self, where: Where, targets: Sequence[Target]) -> None:
        """Fill every target with these rows. Raises DataError naming those that cannot be read."""
        if isinstance(where, slice):
            for _, out in targets:
                self._read(where.start, where.stop, out)
            return
        rows, places = ascending(where)
        for begin, end in pieces(rows, 1, max(1, _MOST_NUMBERS // self._matrix.facts.shape[0])):
            start, stop = int(rows[begin]), int(rows[end - 1]) + 1
            for _, out in targets:
                piece = np.empty((stop - start, *out.shape[1:]), out.dtype)
                self._read(start, stop, piece)
                out[places[begin:end]] = piece[rows[begin:end] - start]

    def _read(self, start: int, stop: int, out: Array) -> None:
        """Read rows one after another, so many at once that their numbers are few."""
        starts = starts_of(self._matrix, start, stop)
        first = 0
        while first < len(out):
            last = int(np.searchsorted(starts, starts[first] + _MOST_NUMBERS, "right")) - 1
            last = min(len(out), max(first + 1, last))
            low, high = int(starts[first]), int(starts[last])
            values, indices = (self._part(name, low, high) for name in ("data", "indices"))
            require_inside(self._matrix, indices, out.shape[1], low)
            _fill(out[first:last], values, indices, starts[first : last + 1] - low)
            first = last

    def _part(self, name: str, low: int, high: int) -> Array:
        guarded = self._matrix.parts[name]
        values = np.empty(high - low, dtype_of(guarded.dataset).newbyteorder("="))
        if high > low:
            with guarded.reading(slice(low, high)):
                self._numbers[name].read(slice(low, high), [(None, values)])
        return values


class SparseColumns:
    """The rows of a matrix compressed by columns: turned once, at the first read, and kept."""

    def __init__(self, matrix: Matrix) -> None:
        self._matrix = matrix
        self._turned: Any = None

    def read(self, where: Where, targets: Sequence[Target]) -> None:
        """Fill every target with these rows. Raises DataError where they cannot be read."""
        if self._turned is None:
            self._turned = self._turn()
        for _, out in targets:
            rows = self._turned[where]
            _fill(out, rows.data, rows.indices, rows.indptr)

    def _turn(self) -> Any:
        from scipy.sparse import csc_matrix

        matrix, across = self._matrix, self._matrix.facts.shape[0]
        starts = starts_of(matrix, 0, across)
        low, high = int(starts[0]), int(starts[-1])
        values, indices = (
            matrix.parts[name].read_rows(low, high) if high > low else np.empty(0, dtype_of(matrix.parts[name].dataset))
            for name in ("data", "indices")
        )
        require_inside(matrix, indices, matrix.rows, low)
        return csc_matrix((_wide(values), indices.astype(np.int64), starts - low), (matrix.rows, across)).tocsr()


def _wide(values: Array) -> Array:
    """Return numbers as SciPy takes them: in native byte order, and no halves."""
    native = values.astype(values.dtype.newbyteorder("="), copy=False)
    return native.astype(np.float32) if native.dtype == np.float16 else native


def _fill(out: Array, values: Array, indices: Array, starts: Array) -> None:
    """Write sparse rows out as dense ones, (rows, numbers of a row). What stands twice in a place is added up."""
    from scipy.sparse import csr_matrix

    values = _wide(values)
    rows = csr_matrix((values, indices.astype(np.int64, copy=False), starts), out.shape)
    if out.dtype == values.dtype and out.flags.c_contiguous:
        rows.toarray(out=out)  # of zeros and what is added to them
    else:
        out[...] = rows.toarray()
