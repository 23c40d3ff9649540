"""Seals: the checksum of a column's values, and of what a result says of itself, since no segment's covers them."""

from __future__ import annotations

import json
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


def seal_description(file: h5py.File) -> None:
    """Seal what a result that is being made says of itself and of its outputs, class names and documents with it."""
    file.attrs[_SEAL] = np.uint64(_checksum_of_description(file))


def is_described_as_written(file: h5py.File) -> bool:
    """Tell whether a result says of itself what was written; of one without a seal, by earlier code, it is taken so."""
    return _SEAL not in file.attrs or _checksum_of_description(file) == int(file.attrs[_SEAL])


def _checksum_of_description(file: h5py.File) -> int:
    digest = Checksum(0)
    described = {"": _attributes(file)} | {str(name): _attributes(file[name]) for name in file.attrs["outputs"]}
    digest.add(json.dumps(described, sort_keys=True).encode())
    for name in ("classes", "hpcens/plan", "hpcens/config"):
        if name in file:
            digest.add(json.dumps(np.ravel(file[name][()]).tolist(), default=repr).encode())
    return digest.value


def _attributes(owner: h5py.File | h5py.Dataset) -> dict[str, str]:
    """Return attributes as text, but for the seal and for references to scales."""
    names = [name for name in owner.attrs if name not in (_SEAL, "DIMENSION_LIST")]
    return {name: repr(np.asarray(owner.attrs[name]).tolist()) for name in names}


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
