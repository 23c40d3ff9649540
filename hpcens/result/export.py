"""Export: a result as Parquet, CSV or npy, by segment, every row compared with its checksum on the way.

| file | what it holds |
| --- | --- |
| .parquet | a column a dataset: numbers, or fixed-size lists of them, nested where a row has more axes |
| .csv | a column a number: `prediction.cat`, `top_labels.0`, `prediction.2.cat`; a header |
| .npy | one dataset, (rows, …) |

Columns that were passed through come first; of an enumeration its names. Where classes have names, `label_name` follows
`label`, and `top_label_names` follow `top_labels`, empty where a row was masked. Scaled uint8 comes out as float32,
multiplied by its scale.
The file has its name only once it is whole.
"""

from __future__ import annotations

import contextlib
import csv
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from hpcens.errors import DataError, UsageError
from hpcens.files import require_folder
from hpcens.result.finished import Finished
from hpcens.result.outputs import Output
from hpcens.result.stored_array import StoredArray
from hpcens.shell import option
from hpcens.vocabulary import Array

_INDICES = {"label_name": "label", "top_label_names": "top_labels"}
"""Columns that an export adds, of class names, and the datasets that have the classes' indices."""


class Writer(Protocol):
    """Write one file, from the rows of one segment after another."""

    def write(self, columns: dict[str, Array]) -> None:
        """Append rows: for each column its values, one a row."""

    def close(self) -> None:
        """Complete the file."""


def export(result: Finished, to: Path, names: Sequence[str] = ()) -> int:
    """Write datasets of a result to a file that does not exist yet, and return the number of rows.

    to     file to write; its ending decides on the format
    names  datasets to export, as the file or as the YAML names them; none: all

    Raises UsageError: the file exists, an unknown ending, no such dataset, more than one for npy, pyarrow is missing;
    DataError where rows are not what was written.
    """
    if to.suffix not in _WRITERS:
        raise UsageError(f"{to}: known endings are {', '.join(_WRITERS)}", "name the file by what it is to be")
    if to.exists():
        raise UsageError(f"{to} exists", "remove it, or choose another name")
    require_folder(to)
    chosen = chosen_outputs(result, names, named=to.suffix != ".npy")
    odd = [output.name for output in chosen if not _fits(np.dtype(output.dtype))]
    if odd:
        what = f"{', '.join(odd)} cannot be exported: neither numbers of at most 64 bits nor times nor text"
        raise UsageError(what, f"name others: {option('datasets')}")
    columns = [output.name for output in chosen if output.name in result.columns]
    if columns and (broken := result.broken_columns):
        raise DataError(f"{result.path}: {', '.join(broken)} is not what was written", "the file is damaged")
    if not result.described_as_written:
        raise DataError(f"{result.path}: what it says of itself is not what was written", "the file is damaged")
    temporary = to.with_name(f".{to.name}.{os.getpid()}")
    try:
        with contextlib.closing(_WRITERS[to.suffix](temporary, result, chosen)) as writer:
            for segment in range(len(result.segmentation)):
                stored = result.read(segment, [_INDICES.get(output.name, output.name) for output in chosen])
                names_of = [name for name in _INDICES if any(output.name == name for output in chosen)]
                stored |= {name: _class_names(stored[_INDICES[name]], result.classes) for name in names_of}
                passed = {name: result.read_column(name, segment) for name in columns}
                writer.write({output.name: _plain((stored | passed)[output.name], output) for output in chosen})
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        _name(temporary, to)
    finally:
        temporary.unlink(missing_ok=True)
    return result.segmentation.rows


def _fits(dtype: np.dtype[Any]) -> bool:
    return dtype.kind in "iubOMm" or (dtype.kind == "f" and dtype.itemsize <= 8)


def chosen_outputs(result: Finished, names: Sequence[str], *, named: bool) -> list[Output]:
    """Describe what is exported. named: whether, where nothing is chosen, class names are."""
    additions = [_class_name_output(result, name) for name in _INDICES]
    names_of = {_INDICES[output.name]: output for output in additions if output is not None}
    if names:
        by_name = {output.name: output for output in names_of.values()}
        every = [*by_name, *result.columns, *(output.name for output in result.outputs)]
        return [by_name.get(name) or result.output(name) for name in stored_names(names, every, result.top)]
    columns = [result.output(name) for name in result.columns]
    parts = ((output, names_of.get(output.name) if named else None) for output in result.outputs)
    return columns + [output for part in parts for output in part if output is not None]


def array_of(result: Finished, output: Output) -> StoredArray:
    """Return what is exported under an output's name as an array that is read when it is asked for."""
    if (indices := _INDICES.get(output.name)) is None:
        return result.array(output.name)
    return result.array(indices).labelled(output.name, dict(enumerate(result.classes)) | {-1: ""})


def _class_name_output(result: Finished, name: str) -> Output | None:
    """Describe a column of class names; None where classes have none, or each label is 0 or 1 by itself."""
    indices = next((output for output in result.outputs if output.name == _INDICES[name]), None)
    if indices is None or indices.class_axis is not None or not result.classes:
        return None
    return Output(name, indices.shape, "O", {"description": f"class names of {indices.name}"})


def _class_names(indices: Array, classes: Sequence[str]) -> Array:
    """Return the names of class indices; the empty text for a row that was masked."""
    named = (indices >= 0) & (indices < len(classes))
    return np.array([*classes, ""], object)[np.where(named, indices, len(classes))]


def stored_names(names: Sequence[str], every: Sequence[str], top: int | None) -> list[str]:
    """Return the datasets that are meant, each once: top-5 is two of them, members are as many as there are.

    every  names of all datasets of the result
    top    K of its top-K; None: it has none
    Raises UsageError where another top-K is meant.
    """
    stored: list[str] = []
    for name in names:
        if re.fullmatch(r"top-\d+", name) and top is not None:
            if name != f"top-{top}":
                raise UsageError(f"{name} is not stored; it has top-{top}", option("datasets", f"top-{top}"))
            stored += ["top_labels", "top_values"]
        elif name == "members":
            stored += [other for other in every if other.startswith("members/")] or [name]
        else:
            stored.append(
                next((other for other in (name, f"members/{name}", f"columns/{name}") if other in every), name)
            )
    return list(dict.fromkeys(stored))


def _name(temporary: Path, to: Path) -> None:
    """Give the whole file its name, and overwrite nothing that came into being meanwhile."""
    try:
        os.link(temporary, to)
    except FileExistsError:
        raise UsageError(f"{to} exists", "remove it, or choose another name") from None
    descriptor = os.open(to.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _plain(values: Array, output: Output) -> Array:
    scale = output.attributes.get("scale")
    return values if scale is None else (values * float(scale)).astype(np.float32)


class _Npy:
    def __init__(self, path: Path, result: Finished, outputs: Sequence[Output]) -> None:
        if len(outputs) != 1:
            named = ", ".join(output.name for output in outputs)
            raise UsageError(
                f"an npy file holds one dataset, not {named}", f"name one: {option('datasets', 'prediction')}"
            )
        (output,) = outputs
        if output.dtype == "O":
            raise UsageError(f"{output.name} is text, which npy files do not hold", "export it as csv or parquet")
        dtype = "<f4" if "scale" in output.attributes else output.dtype
        header = {"descr": dtype, "fortran_order": False, "shape": (result.segmentation.rows, *output.shape)}
        self._file = path.open("xb")
        np.lib.format.write_array_header_2_0(self._file, header)

    def write(self, columns: dict[str, Array]) -> None:
        for values in columns.values():
            self._file.write(np.ascontiguousarray(values).data)

    def close(self) -> None:
        self._file.close()


class _Csv:
    def __init__(self, path: Path, result: Finished, outputs: Sequence[Output]) -> None:
        self._file = path.open("x", newline="", encoding="utf-8")
        self._writer = csv.writer(self._file)
        self._writer.writerow(head for output in outputs for head in _heads(output, result.classes))

    def write(self, columns: dict[str, Array]) -> None:
        flat = [values.reshape(len(values), -1) for values in columns.values()]
        for row in range(len(flat[0])):
            # a float32 as itself, not as the double it is stored in: 0.1, not 0.10000000149011612
            self._writer.writerow(str(number) for values in flat for number in values[row])

    def close(self) -> None:
        self._file.close()


def _heads(output: Output, classes: Sequence[str]) -> Iterator[str]:
    dims = ["class" if axis == output.class_axis else "" for axis in range(1, len(output.shape) + 1)]
    return column_names(output.name, output.shape, dims, classes)


def column_names(name: str, shape: Sequence[int], dims: Sequence[str], classes: Sequence[str]) -> Iterator[str]:
    """Name each number of a row of a dataset: prediction.cat, top_labels.0, prediction.2.cat.

    shape    of a row
    dims     names of its axes, `class` for the one that has the classes
    classes  class names; empty where there are none
    """
    axis = dims.index("class") if classes and "class" in dims else None
    for place in np.ndindex(*shape):
        parts = [str(index) for index in place]
        if axis is not None:
            parts[axis] = classes[place[axis]]
        yield ".".join([name, *parts])


class _Parquet:
    def __init__(self, path: Path, result: Finished, outputs: Sequence[Output]) -> None:
        try:
            import pyarrow
            import pyarrow.parquet
        except ImportError:
            raise UsageError("Parquet needs pyarrow, which is not installed", "pip install 'hpcens[parquet]'") from None
        self._arrow: Any = pyarrow
        fields = []
        for output in outputs:
            dtype = np.dtype("<f4" if "scale" in output.attributes else output.dtype)
            kind = pyarrow.string() if dtype.hasobject else pyarrow.from_numpy_dtype(dtype)
            for size in reversed(output.shape):
                kind = pyarrow.list_(kind, size)
            described = {"description": str(output.attributes.get("description", ""))}
            if output.class_axis is not None:
                described["class_axis"] = str(output.class_axis)
                described |= {"classes": ",".join(result.classes)} if result.classes else {}
            fields.append(pyarrow.field(output.name, kind, nullable=False, metadata=described))
        self._schema = pyarrow.schema(fields, {"fingerprint": str(result.attributes["fingerprint"])})
        self._writer = pyarrow.parquet.ParquetWriter(str(path), self._schema)

    def write(self, columns: dict[str, Array]) -> None:
        arrays = []
        for values in columns.values():
            native = values.astype(values.dtype.newbyteorder("="))
            array = self._arrow.array(native.reshape(-1))
            for size in reversed(values.shape[1:]):
                array = self._arrow.FixedSizeListArray.from_arrays(array, size)
            arrays.append(array)
        self._writer.write_table(self._arrow.Table.from_arrays(arrays, schema=self._schema))

    def close(self) -> None:
        self._writer.close()


_WRITERS: Mapping[str, Callable[[Path, Finished, Sequence[Output]], Writer]] = {
    ".parquet": _Parquet,
    ".csv": _Csv,
    ".npy": _Npy,
}
