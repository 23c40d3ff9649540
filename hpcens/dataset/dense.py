"""Dense inputs: one HDF5 dataset of numbers or fixed strings, its rows along an axis, its numbers unpacked."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np
from h5py._objects import phil

from hpcens.dataset.decoding import PACKING, Decoding, decoding_of
from hpcens.dataset.guard import MATLAB, Guarded
from hpcens.dataset.hdf5 import bytes_behind_a_row, kind_of
from hpcens.dataset.inputs import Input
from hpcens.dataset.layout import Layout, layout_of
from hpcens.dataset.plain import Plain
from hpcens.dataset.selection import Selection, Where
from hpcens.dataset.table import Chunked, open_table
from hpcens.dataset.threads import Threads
from hpcens.dataset.types import dtype_of, untyped_fields, without_type
from hpcens.errors import DataError
from hpcens.shell import listed
from hpcens.specs import InputSpec
from hpcens.vocabulary import Array


@dataclass(frozen=True, slots=True)
class DenseInput:
    """An input of an open file whose rows have one shape, see `inputs.OpenInput`.

    facts     its rows in memory
    guarded   the dataset
    key       of the input in the YAML
    field     of the dataset's compound type; None: it has none
    axis      that of the rows
    stored    dtype of its numbers in the file, in native order; of its strings, where their bytes are taken
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
    def name(self) -> str:
        """Name in the file."""
        return str(self.dataset.name)

    @property
    def where(self) -> str:
        """File and dataset, for messages."""
        return f"{self.guarded.path}: {self.name}"

    @property
    def guards(self) -> tuple[Guarded, ...]:
        """The datasets that it is read from."""
        return (self.guarded,)

    @property
    def rows(self) -> int:
        """Number of rows in the file, selected or not."""
        return self.guarded.rows

    @property
    def tall(self) -> int:
        """Rows of a chunk, 1 where it has none."""
        return int((self.dataset.chunks or (1,) * self.dataset.ndim)[self.axis])

    @property
    def behind_a_row(self) -> int:
        """Bytes that are decompressed to see one row."""
        return bytes_behind_a_row(self.dataset, self.axis)

    @property
    def unpacking(self) -> str:
        """How its numbers are unpacked, as text; empty where they are not."""
        return "" if self.decoding is None else self.decoding.text

    @property
    def place(self) -> tuple[str, int]:
        """By which inputs that are read together know each other: fields of one compound are."""
        return self.dataset.name, self.axis

    def open_table(self, threads: Threads, end: int, budget: int) -> Plain | Chunked:
        """Open its dataset for reading by rows, see `table.open_table`."""
        return open_table(self.dataset, threads, end, self.axis, budget)

    def reading(self, where: Where) -> AbstractContextManager[None]:
        """Vouch for what is read of these rows, see `Guarded.reading`."""
        return self.guarded.reading(where)

    @property
    def _holds_strings(self) -> bool:
        return self.stored.startswith("|S")

    def raw(self, out: Array) -> Array:
        """Return an array for the stored numbers of as many rows as `out` has: itself, where they stay as they are."""
        if self._holds_strings:
            return np.empty(out.shape[:-1], self.stored)
        return out if self.decoding is None else np.empty(out.shape, self.stored)

    def unpack(self, raw: Array, out: Array, where: Where) -> None:
        """Put what was read into `raw` where it is wanted, (rows, *row shape). where: its rows, for messages."""
        if self._holds_strings:
            out[...] = raw.view(np.uint8).reshape(out.shape)
        elif self.decoding is not None:
            out[...] = self.decoding.unpack(raw)

    def examine(self, selection: Selection) -> Iterator[str]:
        """Find nothing: all rows have one shape."""
        return iter(())

    @property
    def layout(self) -> Layout | None:
        """How its chunks lie; None where it is not compressed."""
        return layout_of(self.dataset, self.axis)

    def as_stored(self, rows: int) -> Array:
        """Return an array for rows as the file holds them, in its byte order."""
        dtype = dtype_of(self.dataset)
        dtype = dtype if self.field is None else dtype[self.field]
        return np.empty((rows, *self.facts.shape[: -1 if self._holds_strings else None]), dtype.base)

    def content(self, stored: Array) -> bytes:
        """Return the bytes of rows as the file holds them, for digests."""
        return stored.tobytes()

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


def open_dense(guarded: Guarded, name: str, wanted: InputSpec) -> DenseInput:
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
    if kind.kind == "S" and not wanted.bytes:
        raise DataError(
            f"{where} holds strings of {kind.itemsize} bytes",
            f"write {key}.bytes: true to take each as {kind.itemsize} numbers (uint8, zeros behind its end), or name"
            " another dataset.input in the YAML",
        )
    if wanted.bytes and kind.kind != "S":
        raise DataError(f"{where} holds {kind_of(kind)}, and no strings", f"remove {key}.bytes")
    if kind.kind not in "iufbS" or (kind.itemsize > 8 and kind.kind != "S"):
        what = "complex numbers" if kind.kind == "c" else "no numbers" if kind.kind in "OUVMm" else "numbers too wide"
        raise DataError(
            f"{where} holds {what} ({kind_of(kind)})",
            "inputs are integers, floats of at most 64 bits, booleans, or strings taken as bytes: name another"
            " dataset.input in the YAML",
        )
    for name_of, needless in (("length", wanted.length is not None), ("lengths", wanted.lengths)):
        if needless:
            raise DataError(f"{where} has rows of one length", f"remove {key}.{name_of}")
    if kind.kind == "S" and wanted.fill is not None:
        raise DataError(f"{where} holds strings, which have no fill values", f"remove {key}.fill")
    inner = (kind.itemsize,) if kind.kind == "S" else ()
    shape = (*dataset.shape[:axis], *dataset.shape[axis + 1 :], *dtype.shape, *inner)
    if math.prod(shape) == 0:
        raise DataError(f"{where} has empty rows (shape {dataset.shape})", "nothing to score")
    stored = kind.newbyteorder("=").str
    in_memory = "|u1" if inner else stored
    packed = field is None and kind.kind in "iuf"
    decoding, notes = decoding_of(dataset, where, key, wanted.decode, wanted.fill) if packed else (None, ())
    facts = Input(name or wanted.path, shape, in_memory if decoding is None else decoding.dtype)
    remarks = (*notes, *_axes(dataset, where, key, wanted))
    return DenseInput(facts, guarded, key, field, axis, stored, decoding, remarks)


def _axes(dataset: h5py.Dataset, where: str, key: str, wanted: InputSpec) -> Iterator[str]:
    """Say that MATLAB reverses axes, where nothing is written about them."""
    if MATLAB in dataset.attrs and wanted.axis is None and dataset.ndim > 1:
        shape = " × ".join(map(str, reversed(dataset.shape)))
        yield (
            f"{where} was written by MATLAB, where it is {shape}: the file has its axes reversed, {dataset.shape}, and"
            f" rows are taken along axis 0; {key}.axis: {dataset.ndim - 1} takes MATLAB's first, axis: 0 is silent"
        )
