"""A finished result: read by segment, every byte held against its checksum. Contiguous or compressed alike."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from hpcens.errors import DataError, UsageError
from hpcens.messages import Array
from hpcens.outputs import Output
from hpcens.segments import Segmentation
from hpcens.store.checksum import Checksum
from hpcens.store.filters import load_plugins

_CACHE_BYTES = 8 << 20


def fingerprint_of(path: Path) -> dict[str, Any] | None:
    """The fingerprint a result carries; None where the file is not a result of hpcens."""
    try:
        with h5py.File(path, "r", locking=False) as file:
            return json.loads(file.attrs["fingerprint"])  # type: ignore[no-any-return]
    except (OSError, KeyError, ValueError):
        return None


class Finished:
    """A result, open for reading; another may take its name meanwhile.

    Raises DataError where the file is missing or is no result of hpcens.
    """

    def __init__(self, path: Path) -> None:
        if not path.exists():
            raise DataError(f"{path}: no such file", "a result has its name only once it is complete: hpcens status")
        tree = fingerprint_of(path)
        if tree is None:
            raise DataError(f"{path} is not a result of hpcens", "check the path")
        load_plugins()
        self.path = path
        self.fingerprint = tree
        self._file = h5py.File(path, "r", locking=False, rdcc_nbytes=_CACHE_BYTES)
        names = [str(name) for name in self._file.attrs["outputs"]]
        self.outputs = tuple(self._described(name) for name in names)
        self.segmentation = Segmentation(self._file[names[0]].shape[0], int(self._file.attrs["segment_rows"]))
        self.checksums: np.ndarray[Any, Any] = self._file["hpcens/checksums"][:]
        self.written: np.ndarray[Any, Any] = self._file["hpcens/written"][:]

    def _described(self, name: str) -> Output:
        dataset = self._file[name]
        said = {key: dataset.attrs[key] for key in dataset.attrs if not key.startswith("DIMENSION_")}
        classes = dataset.ndim > 1 and dataset.dims[dataset.ndim - 1].label == "class"
        return Output(name, tuple(dataset.shape[1:]), dataset.dtype.str, said, classes)

    def output(self, name: str) -> Output:
        """An output or a column; the dtype of text is `O`. Raises UsageError where the result has no such dataset."""
        if name in self.columns:
            described = self._described(name)
            text = h5py.check_string_dtype(self._file[name].dtype) is not None
            return replace(described, dtype="O") if text else described
        found = next((output for output in self.outputs if output.name == name), None)
        if found is None:
            names = ", ".join([*self.columns, *(output.name for output in self.outputs)])
            raise UsageError(f"{self.path} has no dataset {name}; it has {names}", "name one of these")
        return found

    @property
    def attributes(self) -> Mapping[str, Any]:
        return dict(self._file.attrs)

    @property
    def classes(self) -> tuple[str, ...]:
        return tuple(self._file["classes"].asstr()[:]) if "classes" in self._file else ()

    def document(self, name: str) -> str:
        """A text kept below `hpcens/`: plan, config."""
        return bytes(self._file[f"hpcens/{name}"][:]).decode()

    @property
    def columns(self) -> tuple[str, ...]:
        """Datasets that were passed through from the input: `columns/<name>`."""
        names: list[str] = []
        if "columns" in self._file:
            group = self._file["columns"]
            group.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
        return tuple(f"columns/{name}" for name in names)

    def copy_columns(self, to: h5py.File) -> None:
        """Pass the columns on to another result that is being made."""
        if "columns" in self._file:
            self._file.copy("columns", to)

    def read_column(self, name: str, segment: int) -> Array:
        """Rows of the segment in a column; text as str, where it is not UTF-8 with escapes for what is wrong."""
        rows = np.s_[slice(*self.segmentation.bounds(segment))]
        dataset = self._file[name]
        text = h5py.check_string_dtype(dataset.dtype) is not None
        return np.asarray(dataset.asstr(errors="backslashreplace")[rows] if text else dataset[rows])

    def rows(self, segment: int) -> str:
        """The segment's rows in words."""
        start, stop = self.segmentation.bounds(int(segment))
        return f"{start}–{stop - 1}"

    def checksum(self, segment: int) -> int:
        """The checksum of what the file holds. Raises DataError where it cannot be read or decompressed."""
        return self._read(segment, ())[1]

    def read(self, segment: int, names: Collection[str]) -> dict[str, Array]:
        """Rows of the segment in the outputs named, as stored. Raises DataError where they are not what was written."""
        values, checksum = self._read(segment, names)
        if checksum != self.checksums[segment]:
            raise DataError(
                f"{self.path}: rows {self.rows(segment)} differ from their checksum",
                f"the file is damaged: hpcens verify {self.path}",
            )
        return values

    def _read(self, segment: int, names: Collection[str]) -> tuple[dict[str, Array], int]:
        start, stop = self.segmentation.bounds(segment)
        digest = Checksum(segment)
        kept = {}
        for output in self.outputs:
            rows = np.empty((stop - start, *output.shape), output.dtype)
            try:
                self._file[output.name].read_direct(rows, np.s_[start:stop])
            except OSError as error:
                raise DataError(
                    f"{self.path}: rows {self.rows(segment)} of {output.name} cannot be read: {error}",
                    "the file is damaged, or its compression needs a package that is missing: pip install hdf5plugin",
                ) from None
            digest.add(rows.reshape(-1).view(np.uint8).data)
            if output.name in names:
                kept[output.name] = rows
        return kept, digest.value

    def close(self) -> None:
        self._file.close()
