"""Columns: values that pass through from the dataset to the result, ids and names, for the rows that are scored."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from hpcens.dataset.guard import Guarded
from hpcens.dataset.hdf5 import kind_of
from hpcens.dataset.selection import ascending, pieces
from hpcens.dataset.source import Source
from hpcens.errors import DataError
from hpcens.specs import DatasetSpec
from hpcens.vocabulary import Array

_BLOCK_BYTES = 8 << 20
_STRING_BYTES = 64
_GAP = 1000
_MOST = 1 << 16  # rows that are read at once


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns of a dataset, copied when the result is made: its HDF5 metadata does not change afterwards.

    identity  of the dataset, see `Source.facts`: files that have changed since are refused
    """

    paths: tuple[Path, ...]
    spec: DatasetSpec
    limit: int | None = None
    identity: Mapping[str, Any] | None = None

    def copy(self, file: h5py.File) -> None:
        """Write each column as `columns/<name>`, one value for each scored row, in their order."""
        if not self.spec.columns:
            return
        source = Source(self.paths, self.spec, self.limit)
        if self.identity is not None:
            source.expect(self.identity)
        for name in self.spec.columns:
            parts = (part.column(name) for part in source.files())
            kinds = [(column.dataset.dtype, column.row_shape) for column in parts]
            dtype, shape = _common(name, kinds)
            copy = file.create_dataset(f"columns/{name.strip('/')}", (source.rows, *shape), dtype)
            for start, values in _blocks(
                source, name, max(_STRING_BYTES, dtype.itemsize) * max(1, int(np.prod(shape)))
            ):
                copy[start : start + len(values)] = values
        source.close()

    def copy_rows(self, file: h5py.File, rows: Array) -> None:
        """Write each column as `columns/<name>`, of these of the scored rows alone, in their order."""
        source = Source(self.paths, self.spec, self.limit)
        if self.identity is not None:
            source.expect(self.identity)
        ordered, places = ascending(rows)
        for name in self.spec.columns:
            parts = (part.column(name) for part in source.files())
            dtype, shape = _common(name, [(column.dataset.dtype, column.row_shape) for column in parts])
            copy = file.create_dataset(f"columns/{name.strip('/')}", (len(rows), *shape), dtype)
            values = np.empty(copy.shape, copy.dtype)
            for begin, end in pieces(ordered, _GAP, _MOST) if len(rows) else ():
                first, last = int(ordered[begin]), int(ordered[end - 1])
                read = np.empty((last + 1 - first, *shape), copy.dtype)
                for part, where, place in source.places(first, last + 1):
                    read[place] = rows_of(part.column(name), where)
                values[places[begin:end]] = read[ordered[begin:end] - first]
            copy[...] = values
        source.close()


def _blocks(source: Source, name: str, row_bytes: int) -> Iterator[tuple[int, Array]]:
    step = max(1, _BLOCK_BYTES // row_bytes)
    for start in range(0, source.rows, step):
        for file, where, place in source.places(start, min(start + step, source.rows)):
            column = file.column(name)
            yield start + place.start, rows_of(column, where)


def rows_of(column: Guarded, where: slice | Array) -> Array:
    """Read rows of a column, in the order wanted."""
    if isinstance(where, slice):
        return column.read_rows(where.start, where.stop)
    rows, places = ascending(where)
    values = np.empty((len(where), *column.row_shape), column.dataset.dtype)
    for begin, end in pieces(rows, _GAP, max(_GAP, len(rows))):
        first = int(rows[begin])
        values[places[begin:end]] = column.read_rows(first, int(rows[end - 1]) + 1)[rows[begin:end] - first]
    return values


def _common(name: str, kinds: Sequence[tuple[np.dtype[Any], tuple[int, ...]]]) -> tuple[Any, tuple[int, ...]]:
    """Return one dtype and shape for the values of all files: of strings of different lengths the longest."""
    dtypes, shapes = zip(*kinds, strict=True)
    strings = [h5py.check_string_dtype(dtype) for dtype in dtypes]
    if all(strings):
        encoding = "utf-8" if any(kind.encoding == "utf-8" for kind in strings) else "ascii"
        lengths = [kind.length for kind in strings]
        dtypes = (h5py.string_dtype(encoding, None if None in lengths else max(lengths)),)
    stored = [h5py.h5t.py_create(dtype, logical=True) for dtype in dtypes]  # of enumerations with their names
    if not all(kind.equal(stored[0]) for kind in stored) or len({*shapes}) > 1:
        each = ", ".join(sorted({f"{_described(dtype)}{list(shape)}" for dtype, shape in kinds}))
        raise DataError(f"column {name} is not alike in all files: {each}", "store it alike in all files")
    return dtypes[0], shapes[0]


def _described(dtype: np.dtype[Any]) -> str:
    names = h5py.check_enum_dtype(dtype)
    return kind_of(dtype) if names is None else f"{kind_of(dtype)} of the names {names}"
