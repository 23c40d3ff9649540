"""The seal of a column: the checksum of all its values, kept as its attribute, since no segment's covers it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np

from hpcens.errors import DataError
from hpcens.result.checksum import Checksum

_BLOCK_BYTES = 8 << 20
_SEAL = "checksum"


def seal(file: h5py.File) -> None:
    """Seal every column of a result that is being made."""
    for column in columns(file):
        column.attrs[_SEAL] = np.uint64(_checksum(column))


def broken_seals(file: h5py.File) -> list[str]:
    """Name the columns that do not hold what was written, or cannot be read."""
    return [column.name.lstrip("/") for column in columns(file) if _broken(column)]


def damaged_columns(path: Path) -> list[str]:
    """Name the columns of a file that do not hold what was written, or cannot be read."""
    try:
        with h5py.File(path, "r", locking=False) as file:
            return broken_seals(file)
    except (OSError, RuntimeError, KeyError):
        return ["columns"]


def columns(file: h5py.File) -> list[h5py.Dataset]:
    """Return the datasets below `columns/`."""
    datasets: list[h5py.Dataset] = []
    if "columns" in file:
        file["columns"].visititems(lambda _, item: datasets.append(item) if isinstance(item, h5py.Dataset) else None)
    return datasets


def _broken(column: h5py.Dataset) -> bool:
    try:
        return _checksum(column) != int(column.attrs[_SEAL])
    except (DataError, OSError, KeyError):
        return True


def _checksum(column: h5py.Dataset) -> int:
    digest = Checksum(0)
    for part in _parts(column):
        digest.add(part)
    return digest.value


def _parts(column: h5py.Dataset) -> Iterator[bytes]:
    row_bytes = column.dtype.itemsize * int(np.prod(column.shape[1:], dtype=np.int64))
    step = max(1, _BLOCK_BYTES // max(1, row_bytes))
    for start in range(0, column.shape[0], step):
        values = column[start : start + step]
        if column.dtype.hasobject:  # text of any length: each with its length before it
            yield b"".join(len(text).to_bytes(8, "little") + text for text in values.reshape(-1))
        else:
            yield np.ascontiguousarray(values).tobytes()
