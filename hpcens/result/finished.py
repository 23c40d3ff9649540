"""A finished result: read by segment, every byte held against its checksum. Contiguous or compressed alike."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from hpcens.dataset.filters import load_plugins
from hpcens.errors import DataError, UsageError
from hpcens.files import MALFORMED
from hpcens.result.checksum import Checksum
from hpcens.result.outputs import Output
from hpcens.result.seal import broken_seals, columns, is_described_as_written
from hpcens.result.stored_array import Field, StoredArray, as_text
from hpcens.shell import quoted
from hpcens.vocabulary import Array, Segmentation

_CACHE_BYTES = 8 << 20


def fingerprint_of(path: Path) -> dict[str, Any] | None:
    """Read the fingerprint a result carries; None where the file is not a result of hpcens."""
    if path.exists() and not path.is_file():  # a pipe would be waited for
        return None
    try:
        with h5py.File(path, "r", locking=False) as file:
            tree: dict[str, Any] = json.loads(file.attrs["fingerprint"])
    except (OSError, *MALFORMED):
        return None
    return tree if isinstance(tree, dict) else None


class Finished:
    """A result, open for reading; another may take its name meanwhile."""

    def __init__(self, path: Path) -> None:
        """Open a result. Raises DataError where the file is missing or is no result of hpcens."""
        if not path.exists():
            raise DataError(f"{path}: no such file", "a result has its name only once it is complete: hpcens status")
        tree = fingerprint_of(path)
        if tree is None:
            raise DataError(f"{path} is not a result of hpcens", "check the path")
        load_plugins()
        self.path = path
        self.fingerprint = tree
        self._file = h5py.File(path, "r", locking=False, rdcc_nbytes=_CACHE_BYTES)
        try:
            names = [str(name) for name in self._file.attrs["outputs"]]
            self.outputs = tuple(self._described(name) for name in names)
            self.segmentation = Segmentation(self._file[names[0]].shape[0], int(self._file.attrs["segment_rows"]))
            self.checksums: np.ndarray[Any, Any] = self._file["hpcens/checksums"][:]
            self.written: np.ndarray[Any, Any] = self._file["hpcens/written"][:]
            self.described_as_written = is_described_as_written(self._file)
        except (OSError, RuntimeError, *MALFORMED) as error:
            self._file.close()
            raise DataError(f"{path} is damaged: {error}", "score it again into another output") from None

    def _described(self, name: str) -> Output:
        dataset = self._file[name]
        attributes = {key: dataset.attrs[key] for key in dataset.attrs if not key.startswith("DIMENSION_")}
        axis = next((axis for axis in range(1, dataset.ndim) if dataset.dims[axis].label == "class"), None)
        return Output(name, tuple(dataset.shape[1:]), dataset.dtype.str, attributes, axis)

    def output(self, name: str) -> Output:
        """Describe an output or a column; the dtype of text is `O`.

        Raises UsageError where the result has no such dataset.
        """
        if name in self._leaves:
            dataset, dtype, _ = self._leaves[name]
            text = h5py.check_string_dtype(dtype.base) is not None or h5py.check_enum_dtype(dtype.base) is not None
            return Output(name, (*dataset.shape[1:], *dtype.shape), "O" if text else dtype.base.str)
        output = next((output for output in self.outputs if output.name == name), None)
        if output is None:
            names = ", ".join([*self.columns, *(output.name for output in self.outputs)])
            raise UsageError(f"{self.path} has no dataset {name}; it has {names}", "name one of these")
        return output

    def array(self, name: str) -> StoredArray:
        """Return an output, a column or `valid` as an array that is read when it is asked for.

        Raises UsageError where the result has no such dataset.
        """
        output = self.output(name)
        if name in self.columns:
            whole, dtype, fields = self._leaves[name]
            dataset, attributes, labels = Field(whole, fields) if fields else whole, {}, _labels(dtype)
        else:
            whole, attributes, labels = self._file[name], dict(output.attributes), None
            dataset = whole
        return StoredArray(
            name,
            dataset,
            whole.ndim,
            shape=(self.segmentation.rows, *output.shape),
            dtype=np.dtype(np.float32 if "scale" in attributes else output.dtype),
            dims=_dims(name, output, attributes),
            attributes=attributes,
            labels=labels,
        )

    @property
    def top(self) -> int | None:
        """The K of top-K; None where that is not stored."""
        best = next((output for output in self.outputs if output.name == "top_labels"), None)
        return best.shape[int(best.attributes.get("class_axis", len(best.shape))) - 1] if best is not None else None

    @property
    def kept(self) -> dict[str, Any] | None:
        """Which rows it holds of those that were scored, `of`; None: all."""
        text = self._file.attrs.get("keep")
        return dict(json.loads(text)) if text is not None else None

    def require_all_rows(self, verb: str) -> None:
        """Raise UsageError where it holds only some of the rows that were scored. verb: what needs them all."""
        if (kept := self.kept) is not None:
            raise UsageError(
                f"{self.path} keeps {self.segmentation.rows:,} of {int(kept['of']):,} rows, and {verb} needs all",
                "score again without output.keep",
            )

    @property
    def summary(self) -> dict[str, Any]:
        """What was noted at the end: rows, when it was finished, masked rows, spot checks, the stages of a cascade."""
        text = self.document("summary").strip() if "hpcens/summary" in self._file else ""
        return dict(json.loads(text)) if text else {}

    @property
    def attributes(self) -> Mapping[str, Any]:
        """All attributes of the file, by name."""
        return dict(self._file.attrs)

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in order; () where there are none."""
        return tuple(self._file["classes"].asstr()[:]) if "classes" in self._file else ()

    def document(self, name: str) -> str:
        """Read a text kept below `hpcens/`: plan, config."""
        return bytes(self._file[f"hpcens/{name}"][:]).decode()

    @property
    def columns(self) -> tuple[str, ...]:
        """What was passed through from the input: `columns/<name>`, and of a compound `columns/<name>.<field>`."""
        return tuple(self._leaves)

    @property
    def broken_columns(self) -> list[str]:
        """Columns that do not hold what was written."""
        return broken_seals(self._file)

    @property
    def _leaves(self) -> dict[str, tuple[h5py.Dataset, np.dtype[Any], tuple[str, ...]]]:
        """The columns by name: the dataset, and what of it is meant: its dtype and the field, one within another."""
        found: dict[str, tuple[h5py.Dataset, np.dtype[Any], tuple[str, ...]]] = {}
        left: list[tuple[str, h5py.Dataset, np.dtype[Any], tuple[str, ...]]] = [
            (column.name.lstrip("/"), column, column.dtype, ()) for column in reversed(columns(self._file))
        ]
        while left:
            name, column, dtype, fields = left.pop()
            found |= {} if dtype.names else {name: (column, dtype, fields)}
            left += [(f"{name}.{field}", column, dtype[field], (*fields, field)) for field in (dtype.names or ())[::-1]]
        return found

    def copy_columns(self, to: h5py.File) -> None:
        """Pass the columns on to another result that is being made."""
        if "columns" in self._file:
            self._file.copy("columns", to)

    def read_column(self, name: str, segment: int) -> Array:
        """Read the rows of a segment in a column; text as str, where it is not UTF-8 with escapes for what is wrong.

        Of an enumeration the names; numbers that have none as text.
        """
        dataset, dtype, fields = self._leaves[name]
        rows = np.s_[slice(*self.segmentation.bounds(segment))]
        values: Array = np.asarray((Field(dataset, fields) if fields else dataset)[rows])
        labels = _labels(dtype)
        text: Array = values
        if labels is not None or h5py.check_string_dtype(dtype.base) is not None:
            text = as_text(values, labels)
        return text

    def rows(self, segment: int) -> str:
        """Return the segment's rows in words."""
        start, stop = self.segmentation.bounds(int(segment))
        return f"{start}–{stop - 1}"

    def masked(self, segment: int) -> list[int]:
        """Return the places within the segment of rows that were masked."""
        if "valid" not in self._file:
            return []
        flags = self._file["valid"][slice(*self.segmentation.bounds(segment))]
        places: list[int] = np.flatnonzero(flags == 0).tolist()
        return places

    def checksum(self, segment: int) -> int:
        """Compute the checksum of what the file holds. Raises DataError where it cannot be read or decompressed."""
        return self._read(segment, ())[1]

    def read(self, segment: int, names: Collection[str]) -> dict[str, Array]:
        """Read a segment's rows of the outputs named, (rows of the segment, *output shape) each, as stored.

        Raises DataError where they are not what was written.
        """
        values, checksum = self._read(segment, names)
        if checksum != self.checksums[segment]:
            raise DataError(
                f"{self.path}: rows {self.rows(segment)} differ from their checksum",
                f"the file is damaged: hpcens verify {quoted(self.path)}",
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
        """Close the file."""
        self._file.close()


def _labels(dtype: np.dtype[Any]) -> dict[int, str] | None:
    """Return number → name of an enumeration; None where it is none."""
    numbers = h5py.check_enum_dtype(dtype.base)
    return None if numbers is None else {number: name for name, number in numbers.items()}


def _dims(name: str, output: Output, attributes: Mapping[str, Any]) -> tuple[str, ...]:
    """Name the axes: rows, classes, the best of them in top-K; others by the dataset and their number."""
    stem = name.rpartition("/")[2]
    names = {0: "row"}
    if output.class_axis is not None:
        names[output.class_axis] = "class"
    elif "class_axis" in attributes and stem.startswith("top_"):
        names[int(attributes["class_axis"])] = "top"
    return tuple(names.get(axis, f"axis_{axis}") for axis in range(len(output.shape) + 1))
