"""The dataset: rows of an HDF5 file, read by segment. Checked before anything is queued."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from hpcens.errors import DataError
from hpcens.messages import Rows
from hpcens.segments import Segmentation

_SAMPLES = 64


@dataclass(frozen=True, slots=True)
class Input:
    """One input of a dataset: its name, and the shape and dtype of a row."""

    name: str
    shape: tuple[int, ...]
    dtype: str

    @property
    def row_bytes(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64)) * np.dtype(self.dtype).itemsize


@dataclass(frozen=True, slots=True)
class Facts:
    """What a dataset is. rows: those to be scored; inputs: in order; identity: see `Source.facts`."""

    rows: int
    inputs: tuple[Input, ...]
    identity: dict[str, str | int]

    @property
    def row_bytes(self) -> int:
        return sum(of.row_bytes for of in self.inputs)

    @property
    def row(self) -> str:
        """Shapes and dtypes of a row as text."""
        return " + ".join(f"{of.dtype}{list(of.shape)}" for of in self.inputs)


class Source:
    """An open dataset, read only; the file is neither locked nor touched.

    Raises DataError: no such file, not HDF5, no such dataset, no rows, not numeric.
    """

    def __init__(self, path: Path, key: str | None, limit: int | None = None) -> None:
        self.path = path
        self._file = _open(path)
        self._dataset = _find(self._file, path, key)
        if self._dataset.ndim == 0 or self._dataset.shape[0] == 0:
            raise DataError(
                f"{path}: {self._dataset.name} has no rows (shape {self._dataset.shape})", "nothing to score"
            )
        if self._dataset.dtype.kind not in "iufb":
            raise DataError(
                f"{path}: {self._dataset.name} holds {self._dataset.dtype}, not numbers",
                "name a numeric dataset: dataset.input in the YAML",
            )
        self.rows = min(self._dataset.shape[0], limit or self._dataset.shape[0])

    @property
    def row_bytes(self) -> int:
        return int(np.prod(self._dataset.shape[1:], dtype=np.int64)) * int(self._dataset.dtype.itemsize)

    def facts(self) -> Facts:
        """Identity: name, size and time of the file, and a digest of rows spread over it."""
        status = self.path.stat()
        digest = hashlib.sha256()
        for row in sorted({round(i * (self._dataset.shape[0] - 1) / _SAMPLES) for i in range(_SAMPLES + 1)}):
            digest.update(np.ascontiguousarray(self._dataset[row : row + 1]).tobytes())
        return Facts(
            rows=self.rows,
            inputs=(Input(self._dataset.name.strip("/"), tuple(self._dataset.shape[1:]), self._dataset.dtype.str),),
            identity={
                "key": self._dataset.name,
                "rows": self.rows,
                "shape": str(self._dataset.shape),
                "dtype": self._dataset.dtype.str,
                "file bytes": status.st_size,
                "modified": status.st_mtime_ns,
                "sampled rows": digest.hexdigest()[:32],
            },
        )

    def head(self, rows: int) -> Rows:
        """The first rows of each input, native byte order."""
        return self._read(0, min(rows, self.rows))

    def read(self, segmentation: Segmentation, segment: int) -> Rows:
        """For each input (rows of the segment, *row shape), native byte order."""
        return self._read(*segmentation.bounds(segment))

    def _read(self, start: int, stop: int) -> Rows:
        rows = np.empty((stop - start, *self._dataset.shape[1:]), self._dataset.dtype.newbyteorder("="))
        self._dataset.read_direct(rows, np.s_[start:stop])
        return (rows,)

    def close(self) -> None:
        self._file.close()


def _open(path: Path) -> h5py.File:
    if not path.exists():
        raise DataError(f"dataset {path}: no such file", "check the path; relative paths start at the current folder")
    try:
        return h5py.File(path, "r", locking=False)
    except PermissionError:
        raise DataError(f"dataset {path}: no permission to read it", "ask its owner, or copy it") from None
    except OSError as error:
        if not h5py.is_hdf5(path):
            raise DataError(f"dataset {path} is not an HDF5 file", "convert it, or check the path") from None
        raise DataError(f"dataset {path} cannot be opened: {error}", "it may be truncated; copy it again") from None


def _find(file: h5py.File, path: Path, key: str | None) -> h5py.Dataset:
    names: list[str] = []
    file.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
    if key is None:
        if len(names) != 1:
            raise DataError(
                f"{path} holds {len(names)} datasets ({', '.join(names[:8])}): which one is to be scored?",
                "name it: dataset.input in the YAML",
            )
        return file[names[0]]
    found = file.get(key)
    if not isinstance(found, h5py.Dataset):
        raise DataError(f"{path} has no dataset {key!r}", f"it has: {', '.join(names[:8]) or 'none'}")
    return found
