"""Inputs: what of a file is scored, and what an open file gives of it, in whichever form it is stored."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from hpcens.dataset.guard import Guarded
from hpcens.dataset.layout import Layout
from hpcens.dataset.selection import Selection, Where
from hpcens.dataset.threads import Threads
from hpcens.specs import InputSpec
from hpcens.vocabulary import Array

Target = tuple[str | None, Array]
"""A field of a compound type (None: its type has none) and where its rows are to go."""


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


class Table(Protocol):
    """What rows are read from."""

    def read(self, where: Where, targets: Sequence[Target]) -> None:
        """Fill every target with these rows. Raises DataError naming those that cannot be read."""


class OpenInput(Protocol):
    """An input of an open file."""

    @property
    def facts(self) -> Input:
        """Its rows in memory."""

    @property
    def guards(self) -> tuple[Guarded, ...]:
        """The datasets that it is read from."""

    @property
    def field(self) -> str | None:
        """The field of a compound type; None: it has none."""

    @property
    def remarks(self) -> tuple[str, ...]:
        """What is to be said of it."""

    @property
    def name(self) -> str:
        """Name in the file, of a dataset or a group."""

    @property
    def where(self) -> str:
        """File and dataset, for messages."""

    @property
    def rows(self) -> int:
        """Number of rows in the file, selected or not."""

    @property
    def place(self) -> Hashable:
        """By which inputs that are read together know each other."""

    @property
    def tall(self) -> int:
        """Rows that are best read at once, 1 where any are."""

    @property
    def behind_a_row(self) -> int:
        """Bytes that are decompressed to see one row."""

    @property
    def unpacking(self) -> str:
        """How its numbers are unpacked, as text; empty where they are not."""

    @property
    def layout(self) -> Layout | None:
        """How its chunks lie; None where that does not matter."""

    def open_table(self, threads: Threads, end: int, budget: int) -> Table:
        """Open what its rows are read from, see `table.open_table`."""

    def reading(self, where: Where) -> AbstractContextManager[None]:
        """Vouch for what is read of these rows, see `Guarded.reading`."""

    def raw(self, out: Array) -> Array:
        """Return an array for what is stored of as many rows as `out` has: `out` itself where it stays as it is."""

    def unpack(self, raw: Array, out: Array, where: Where) -> None:
        """Put what was read into `raw` where it is wanted, (rows, *row shape). where: its rows, for messages."""

    def as_stored(self, rows: int) -> Array:
        """Return an array for rows as the file holds them."""

    def content(self, stored: Array) -> bytes:
        """Return the bytes of rows as the file holds them, for digests."""

    def stored_chunks(self, most: int) -> bytes:
        """Return the compressed bytes of some chunks, spread over the dataset."""

    def is_filled(self, row: Array) -> bool:
        """Tell whether a row as it is stored holds a fill value that is NaN in memory."""

    def examine(self, selection: Selection) -> Iterator[str]:
        """Look at what is selected before anything is scored; yield what is to be said. Raises DataError."""

    def packed_behind(self) -> Iterator[str]:
        """Say that what a virtual dataset takes its rows from is packed, and it itself does not say so."""

    def described(self, wanted: InputSpec | None) -> str:
        """Return it as text, as the identity of a dataset holds it. wanted: as the YAML names it, if it does."""

    def other_axis(self, rows: int) -> str:
        """Say which of its other axes has as many rows, and what to write then; empty where none has."""
