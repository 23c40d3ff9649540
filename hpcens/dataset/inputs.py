"""Inputs: what of a file is scored, found in it, with the axis of its rows and the way its numbers are unpacked."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np
from h5py._objects import phil

from hpcens.dataset.decoding import PACKING, Decoding, decoding_of
from hpcens.dataset.guard import MATLAB, Guarded
from hpcens.dataset.hdf5 import kind_of, listed
from hpcens.dataset.layout import Layout, layout_of
from hpcens.dataset.types import dtype_of, untyped_fields, without_type
from hpcens.errors import DataError
from hpcens.specs import InputSpec
from hpcens.vocabulary import Array


@dataclass(frozen=True, slots=True)
class Input:
    """One input of the dataset: its name, and the shape and dtype of a row in memory."""

    name: str
    shape: tuple[int, ...]
    dtype: str

    @property
    def row_bytes(self) -> int:
        """Bytes of one row as it is handed on."""
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize


@dataclass(frozen=True, slots=True)
class OpenInput:
    """An input of an open file.

    facts     its rows in memory
    guarded   the dataset
    key       of the input in the YAML
    field     of the dataset's compound type; None: it has none
    axis      that of the rows
    stored    dtype of its numbers in the file, in native order
    decoding  how they are unpacked; None: they are taken as they are
    remarks   what is to be said of it
    """

    facts: Input
    guarded: Guarded
    key: str
    field: str | None
    axis: int
    stored: str
    decoding: Decoding | None
    remarks: tuple[str, ...]

    @property
    def dataset(self) -> h5py.Dataset:
        """The HDF5 dataset that the rows are read from."""
        return self.guarded.dataset

    @property
    def where(self) -> str:
        """File and dataset, for messages."""
        return f"{self.guarded.path}: {self.dataset.name}"

    @property
    def rows(self) -> int:
        """Number of rows in the file, selected or not."""
        return self.guarded.rows

    @property
    def place(self) -> tuple[str, int]:
        """By which inputs that are read together know each other: fields of one compound are."""
        return self.dataset.name, self.axis

    def raw(self, out: Array) -> Array:
        """Return an array for the stored numbers of as many rows as `out` has: itself, where they stay as they are."""
        return out if self.decoding is None else np.empty(out.shape, self.stored)

    def unpack(self, raw: Array, out: Array) -> None:
        """Put stored numbers that were read into `raw` where they are wanted, both (rows, *row shape)."""
        if self.decoding is not None:
            out[...] = self.decoding.unpack(raw)

    @property
    def layout(self) -> Layout | None:
        """How its chunks lie; None where it is not compressed."""
        return layout_of(self.dataset, self.axis)

    def as_stored(self, rows: int) -> Array:
        """Return an array for rows as the file holds them, in its byte order."""
        dtype = dtype_of(self.dataset)
        dtype = dtype if self.field is None else dtype[self.field]
        return np.empty((rows, *self.facts.shape), dtype.base)

    def stored_chunks(self, most: int) -> bytes:
        """Return the compressed bytes of some chunks, spread over the dataset."""
        dataset, count = self.dataset, self.dataset.id.get_num_chunks()
        with self.guarded.reading(slice(0, self.rows)):
            numbers = sorted({i * (count - 1) // max(1, most - 1) for i in range(most)}) if count else []
            offsets = [dataset.id.get_chunk_info(number).chunk_offset for number in numbers]
            with phil:  # as in `table`
                return b"".join(dataset.id.read_direct_chunk(offset)[1] for offset in offsets)

    def is_filled(self, row: Array) -> bool:
        """Tell whether a row as it is stored holds a fill value that is NaN in memory."""
        decoding = self.decoding
        if decoding is None or not math.isnan(decoding.instead):
            return False
        return bool(decoding.absent(row.astype(self.stored)).any())

    def packed_behind(self) -> Iterator[str]:
        """Say that what a virtual dataset takes its rows from is packed, and it itself does not say so."""
        if not any(name in self.dataset.attrs for name in PACKING):
            for path, attributes in self.guarded.sources.attributes():
                if named := [name for name in PACKING if name in attributes]:
                    yield (
                        f"{self.where} takes rows from {path}, where they have"
                        f" {', '.join(named)}: not applied, since the virtual dataset has no such attributes of its own"
                    )
                    return

    def described(self, wanted: InputSpec | None) -> str:
        """Return it as text, as the identity of a dataset holds it. wanted: as the YAML names it, if it does."""
        row = f"{self.stored}{list(self.facts.shape)}"
        if wanted is None:
            return row
        return " ".join(
            [wanted.path, *[f"field {self.field}"] * bool(self.field), *[f"axis {self.axis}"] * bool(self.axis), row]
        )

    def other_axis(self, rows: int) -> str:
        """Say which of its other axes has as many rows, and what to write then; empty where none has."""
        axes = [axis for axis, size in enumerate(self.dataset.shape) if size == rows and axis != self.axis]
        return f"{self.key}.axis: {axes[0]} takes its {rows} rows" if axes else ""


def open_input(guarded: Guarded, name: str, wanted: InputSpec) -> OpenInput:
    """Return an input of an open file.

    guarded  its dataset
    name     of the input; empty where the file's only dataset is meant
    Raises DataError: no such field or axis, not numeric, empty rows, attributes that cannot be applied.
    """
    dataset, axis = guarded.dataset, guarded.axis
    key = f"dataset.inputs.{name or wanted.path}"
    where = f"{guarded.path}: {dataset.name}"
    untyped = untyped_fields(dataset)
    if wanted.field is not None and wanted.field in untyped:
        raise without_type(f"{where}, field {wanted.field},", untyped[wanted.field])
    dtype = dtype_of(dataset)
    if (field := wanted.field) is not None:
        fields: Mapping[str, Any] = dtype.fields or {}
        if field not in fields:
            raise DataError(f"{where} has no field {field!r}", f"it has: {listed(list(fields)) or 'no fields'}")
        where, dtype = f"{where}, field {field},", fields[field][0]
    elif dtype.fields:
        raise DataError(
            f"{where} is a compound of fields: {listed([*dtype.fields, *untyped])}",
            f"name one: dataset.inputs: {{{name or 'x'}: {{path: {wanted.path}, field: {next(iter(dtype.fields))}}}}}",
        )
    kind = dtype.base
    if kind.kind not in "iufb" or kind.itemsize > 8:
        what = "complex numbers" if kind.kind == "c" else "no numbers" if kind.kind in "OSUVMm" else "numbers too wide"
        raise DataError(
            f"{where} holds {what} ({kind_of(kind)})",
            "inputs are integers, floats of at most 64 bits, or booleans: name another dataset.input in the YAML",
        )
    shape = (*dataset.shape[:axis], *dataset.shape[axis + 1 :], *dtype.shape)
    if math.prod(shape) == 0:
        raise DataError(f"{where} has empty rows (shape {dataset.shape})", "nothing to score")
    stored = kind.newbyteorder("=").str
    packed = field is None and kind.kind in "iuf"
    decoding, said = decoding_of(dataset, where, key, wanted.decode, wanted.fill) if packed else (None, ())
    facts = Input(name or wanted.path, shape, stored if decoding is None else decoding.dtype)
    remarks = (*said, *_axes(dataset, where, key, wanted))
    return OpenInput(facts, guarded, key, field, axis, stored, decoding, remarks)


def _axes(dataset: h5py.Dataset, where: str, key: str, wanted: InputSpec) -> Iterator[str]:
    """Say that MATLAB reverses axes, where nothing is written about them."""
    if MATLAB in dataset.attrs and wanted.axis is None and dataset.ndim > 1:
        shape = " × ".join(map(str, reversed(dataset.shape)))
        yield (
            f"{where} was written by MATLAB, where it is {shape}: the file has its axes reversed, {dataset.shape}, and"
            f" rows are taken along axis 0; {key}.axis: {dataset.ndim - 1} takes MATLAB's first, axis: 0 is silent"
        )


def require_alike(path: Any, inputs: Sequence[OpenInput]) -> None:
    """Raise DataError where the inputs of a file differ in rows, naming the axis that would agree."""
    if len({each.rows for each in inputs}) > 1:
        counts = ", ".join(f"{each.dataset.name} {each.rows}" for each in inputs)
        hints = [hint for each in inputs for other in inputs if (hint := each.other_axis(other.rows))]
        remedy = f"; {hints[0]}" if hints else ""
        raise DataError(f"{path}: the inputs differ in rows: {counts}", f"every input has one row a sample{remedy}")
