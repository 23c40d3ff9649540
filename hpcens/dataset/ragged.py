"""Ragged inputs: rows of variable length, numbers or strings; padded to a stated length, or their lengths alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np

from hpcens.dataset.guard import Guarded
from hpcens.dataset.hdf5 import kind_of
from hpcens.dataset.inputs import Input
from hpcens.dataset.layout import Layout
from hpcens.dataset.plain import Plain
from hpcens.dataset.selection import Selection, Where
from hpcens.dataset.threads import Threads
from hpcens.dataset.types import dtype_of
from hpcens.errors import DataError
from hpcens.specs import InputSpec
from hpcens.vocabulary import Array

_EXAMINED = 1 << 20  # rows whose lengths are looked at before the start, in some seconds
_BLOCK = 1 << 14


@dataclass(frozen=True, slots=True)
class RaggedInput:
    """An input of an open file whose rows differ in length, see `inputs.OpenInput`.

    facts    its rows in memory
    guarded  the dataset
    key      of the input in the YAML
    element  dtype of one number; uint8 for the bytes of a string
    length   numbers that each row has in memory; None: it is the lengths that are taken
    pad      what stands behind the end of a row
    """

    facts: Input
    guarded: Guarded
    key: str
    element: np.dtype[Any]
    length: int | None
    pad: float

    @property
    def dataset(self) -> h5py.Dataset:
        """The HDF5 dataset that the rows are read from."""
        return self.guarded.dataset

    @property
    def guards(self) -> tuple[Guarded, ...]:
        """The datasets that it is read from."""
        return (self.guarded,)

    @property
    def field(self) -> None:
        """No field: compounds of such rows are refused."""
        return

    @property
    def remarks(self) -> tuple[str, ...]:
        """Nothing but what `examine` finds."""
        return ()

    @property
    def name(self) -> str:
        """Name in the file."""
        return str(self.dataset.name)

    @property
    def where(self) -> str:
        """File and dataset, for messages."""
        return f"{self.guarded.path}: {self.name}"

    @property
    def rows(self) -> int:
        """Number of rows in the file, selected or not."""
        return self.guarded.rows

    @property
    def place(self) -> tuple[str, int]:
        """By which inputs that are read together know each other: rows and their lengths are."""
        return self.dataset.name, 0

    @property
    def tall(self) -> int:
        """Rows of a chunk, 1 where it has none."""
        return int((self.dataset.chunks or (1,))[0])

    @property
    def behind_a_row(self) -> int:
        """Bytes that are read to see one row, at most."""
        return int(self.facts.row_bytes + self.tall * self.dataset.dtype.itemsize)

    @property
    def unpacking(self) -> str:
        """Nothing: numbers are taken as they are."""
        return ""

    @property
    def layout(self) -> Layout | None:
        """None: the numbers of a row lie together, and uncompressed."""
        return None

    def open_table(self, threads: Threads, end: int, budget: int) -> Plain:
        """Open its dataset for reading by rows: HDF5 alone knows where each lies."""
        return Plain(self.dataset, 0, row_bytes=self.facts.row_bytes)

    def reading(self, where: Where) -> AbstractContextManager[None]:
        """Vouch for what is read of these rows, see `Guarded.reading`."""
        return self.guarded.reading(where)

    def raw(self, out: Array) -> Array:
        """Return an array for as many rows as `out` has, each as long as it is."""
        return self.as_stored(len(out))

    def unpack(self, raw: Array, out: Array, where: Where) -> None:
        """Put rows where they are wanted: (rows, length), or (rows,) of lengths. where: their numbers, for messages.

        Raises DataError where one is longer.
        """
        lengths = _lengths(raw)
        if self.length is None:
            out[...] = lengths
            return
        if len(lengths) and lengths.max() > self.length:
            at = int(lengths.argmax())
            row = where.start + at if isinstance(where, slice) else int(where[at])
            raise DataError(
                f"{self.where}: row {row} has {lengths[at]} values, and {self.key}.length is {self.length}",
                "write a length that all rows fit, or leave longer ones out (dataset.select in the YAML)",
            )
        out[...] = self.pad
        out[np.arange(self.length) < lengths[:, None]] = self._joined(raw)

    def _joined(self, raw: Array) -> Array:
        if raw.size and isinstance(raw[0], bytes):
            return np.frombuffer(b"".join(raw), np.uint8)
        return np.concatenate([np.empty(0, self.element), *raw])

    def as_stored(self, rows: int) -> Array:
        """Return an array for rows as the file holds them."""
        return np.empty(rows, self.dataset.dtype)

    def content(self, stored: Array) -> bytes:
        """Return lengths and numbers of rows, for digests."""
        return _lengths(stored).tobytes() + self._joined(stored).tobytes()

    def stored_chunks(self, most: int) -> bytes:
        """Return nothing: there is no layout in which rows would have to be left alone."""
        return b""

    def is_filled(self, row: Array) -> bool:
        """Tell that no row holds fill values."""
        return False

    def examine(self, selection: Selection) -> Iterator[str]:
        """Look at the lengths of the rows that are selected, of very many at some, spread over the file.

        Raises DataError where one does not fit.
        """
        if self.length is None or not selection.rows:
            return
        blocks = range(0, selection.rows, _BLOCK)
        step = -(-len(blocks) // (_EXAMINED // _BLOCK))
        least, most, seen = self.length, 0, 0
        table = Plain(self.dataset, 0, row_bytes=self.facts.row_bytes)
        for start in blocks[::step]:
            stop = min(start + _BLOCK, selection.rows)
            raw, where = self.as_stored(stop - start), selection.where(start, stop)
            with self.reading(where):
                table.read(where, [(None, raw)])
            self.unpack(raw, np.empty((len(raw), self.length), self.facts.dtype), where)
            lengths = _lengths(raw)
            least, most, seen = min(least, int(lengths.min())), max(most, int(lengths.max())), seen + len(raw)
        part = "" if seen == selection.rows else f", in {seen:,} of {selection.rows:,} rows that were looked at"
        yield f"{self.where}: rows of {least:,} to {most:,} values{part}, padded to {self.length:,} with {self.pad:g}"

    def packed_behind(self) -> Iterator[str]:
        """Say nothing: such rows are not packed."""
        return iter(())

    def described(self, wanted: InputSpec | None) -> str:
        """Return it as text, as the identity of a dataset holds it."""
        form = "lengths" if self.length is None else f"padded to {self.length} with {self.pad!r}"
        return f"{wanted.path if wanted else ''} {self.element.newbyteorder('=').str} {form}"

    def other_axis(self, rows: int) -> str:
        """Say nothing: there is one axis."""
        return ""


def is_ragged(dataset: h5py.Dataset) -> bool:
    """Tell whether the rows of a dataset are numbers or strings of variable length."""
    dtype = dtype_of(dataset)
    return h5py.check_vlen_dtype(dtype) is not None or _is_text(dtype)


def _is_text(dtype: np.dtype[Any]) -> bool:
    text = h5py.check_string_dtype(dtype)
    return text is not None and text.length is None


def open_ragged(guarded: Guarded, name: str, wanted: InputSpec) -> RaggedInput:
    """Return an input whose rows differ in length.

    guarded  its dataset
    name     of the input; empty where the file's only dataset is meant
    Raises DataError: not numeric, more than a sequence a row, no length said, keys that would have no effect.
    """
    dataset = guarded.dataset
    key, where = f"dataset.inputs.{name or wanted.path}", f"{guarded.path}: {dataset.name}"
    dtype = dtype_of(dataset)
    text, base = _is_text(dtype), h5py.check_vlen_dtype(dtype)
    what = "strings" if text else f"rows of variable length ({base})"
    element = np.dtype(np.uint8) if text else np.dtype(base)
    if element.kind not in "iufb" or element.itemsize > 8:
        raise DataError(
            f"{where} holds rows of variable length of {kind_of(element)}",
            "inputs are integers, floats of at most 64 bits, booleans, or strings taken as bytes",
        )
    if not element.isnative:
        raise DataError(
            f"{where} holds {what} in the other byte order, which h5py does not turn",
            "write it in this machine's order",
        )
    if dataset.ndim != 1:
        raise DataError(
            f"{where} has the shape {dataset.shape} of {what}", "an input has one sequence a row: store it in one axis"
        )
    if wanted.field is not None:
        raise DataError(f"{where} holds {what}, no compound", f"remove {key}.field")
    if wanted.decode == "true":
        raise DataError(f"{where} holds {what}, which are not packed", f"remove {key}.decode")
    if wanted.bytes and not text:
        raise DataError(f"{where} holds {what}, and no strings", f"remove {key}.bytes")
    if wanted.lengths:
        return RaggedInput(Input(name or wanted.path, (), "<i8"), guarded, key, element, None, 0)
    if wanted.length is None or (text and not wanted.bytes):
        options = f"path: {wanted.path}, {'bytes: true, ' if text else ''}length: 128"
        raise DataError(
            f"{where} holds {what}",
            f"say how long rows are made: dataset.inputs: {{{name or 'x'}: {{{options}}}}} (shorter ones are padded, a"
            " longer one is an error); lengths: true makes a second input of their lengths",
        )
    pad = 0.0 if wanted.fill is None else wanted.fill
    with np.errstate(invalid="ignore"):
        held = np.array(pad).astype(element)
    if held != pad:
        raise DataError(f"{where} holds {element}, and {key}.fill is {pad:g}", "pad with a number that it can hold")
    facts = Input(name or wanted.path, (wanted.length,), element.newbyteorder("=").str)
    return RaggedInput(facts, guarded, key, element, wanted.length, pad)


def _lengths(raw: Array) -> Array:
    return np.fromiter(map(len, raw), np.int64, len(raw))
