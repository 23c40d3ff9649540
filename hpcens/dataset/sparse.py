"""Sparse inputs: compressed rows or columns as AnnData (.h5ad) and 10x Genomics store them, read as dense rows.

Both hold three arrays in a group: `data`, the numbers that are not 0; `indices`, where each stands in its row (column);
`indptr`, at which number each row (column) begins. AnnData says which, and the shape, in attributes; 10x has genes by
cells, compressed by cells, which are the rows here, and the shape in a dataset.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from hpcens.dataset.guard import Guarded, Origins
from hpcens.dataset.inputs import Input, Table
from hpcens.dataset.layout import Layout
from hpcens.dataset.links import passed
from hpcens.dataset.selection import Selection, Where
from hpcens.dataset.sparse_rows import SparseColumns, SparseRows
from hpcens.dataset.table import open_table
from hpcens.dataset.threads import Threads
from hpcens.dataset.types import attribute, dtype_of
from hpcens.errors import DataError
from hpcens.specs import InputSpec
from hpcens.vocabulary import Array

_PARTS = ("data", "indices", "indptr")


@dataclass(frozen=True, slots=True)
class _Matrix:
    """What a group says of itself. shape: rows, numbers of a row."""

    shape: tuple[int, int]
    by_rows: bool


@dataclass(frozen=True, slots=True)
class SparseInput:
    """An input of an open file that is a sparse matrix, see `inputs.OpenInput`.

    facts    its rows in memory
    name     of the group, in the file
    parts    `data`, `indices` and `indptr`
    rows     number of rows in the file
    by_rows  whether each row lies together; if not, all are read to see one
    """

    facts: Input
    name: str
    parts: Mapping[str, Guarded]
    rows: int
    by_rows: bool

    @property
    def guards(self) -> tuple[Guarded, ...]:
        """The datasets that it is read from."""
        return tuple(self.parts.values())

    @property
    def field(self) -> None:
        """No field: a matrix has one number a place."""
        return

    @property
    def remarks(self) -> tuple[str, ...]:
        """What reading by columns takes."""
        held = sum(2 * part.dataset.size * part.dataset.dtype.itemsize for part in self.guards)
        if self.by_rows:
            return ()
        return (
            f"{self.where} is stored by columns: each reader holds all of it, up to {held / 1e9:.3g} GB; stored by rows"
            " (in AnnData: X = X.tocsr()) it is read as it is scored",
        )

    @property
    def where(self) -> str:
        """File and group, for messages."""
        return f"{self.parts['data'].path}: {self.name}"

    @property
    def place(self) -> tuple[str, int]:
        """By which inputs that are read together know each other."""
        return self.name, 0

    @property
    def tall(self) -> int:
        """Any rows are read as well as others."""
        return 1

    @property
    def behind_a_row(self) -> int:
        """Bytes that are read to see one row, at most."""
        return self.facts.row_bytes

    @property
    def unpacking(self) -> str:
        """Nothing: numbers are taken as they are."""
        return ""

    @property
    def layout(self) -> Layout | None:
        """None: its chunks hold parts of rows one after another."""
        return None

    def open_table(self, threads: Threads, end: int, budget: int) -> Table:
        """Open its arrays for reading by rows, see `table.open_table`."""
        if not self.by_rows:
            return SparseColumns(self)
        numbers = {
            name: open_table(self.parts[name].dataset, threads, self.parts[name].rows, 0, budget)
            for name in ("data", "indices")
        }
        return SparseRows(self, numbers)

    def reading(self, where: Where) -> AbstractContextManager[None]:
        """Vouch for nothing here: each array is vouched for where it is read."""
        return contextlib.nullcontext()

    def raw(self, out: Array) -> Array:
        """Return the array itself."""
        return out

    def unpack(self, raw: Array, out: Array, where: Where) -> None:
        """Do nothing: rows were read into their place."""

    def as_stored(self, rows: int) -> Array:
        """Return an array for dense rows."""
        return np.empty((rows, *self.facts.shape), self.facts.dtype)

    def content(self, stored: Array) -> bytes:
        """Return the bytes of dense rows, for digests."""
        return stored.tobytes()

    def stored_chunks(self, most: int) -> bytes:
        """Return nothing: rows can be read alone."""
        return b""

    def is_filled(self, row: Array) -> bool:
        """Tell that no row holds fill values."""
        return False

    def examine(self, selection: Selection) -> Iterator[str]:
        """Find nothing: all rows have one shape."""
        return iter(())

    def packed_behind(self) -> Iterator[str]:
        """Say nothing: such numbers are not packed."""
        return iter(())

    def described(self, wanted: InputSpec | None) -> str:
        """Return it as text, as the identity of a dataset holds it."""
        return f"{wanted.path if wanted else ''} sparse {self.facts.dtype}{list(self.facts.shape)}"

    def other_axis(self, rows: int) -> str:
        """Say nothing: the other axis cannot be that of the rows."""
        return ""


def _matrix_of(group: h5py.Group) -> _Matrix | None:
    """Return what a group that holds a sparse matrix says of it; None where it holds none."""
    if any(group.get(part, getlink=True) is None for part in _PARTS):
        return None
    for kind, size in (("encoding-type", "shape"), ("h5sparse_format", "h5sparse_shape")):  # today's, and before 0.7
        form, shape = (attribute(group, name) for name in (kind, size))
        form = form.decode() if isinstance(form, bytes) else str(form)
        if form.removesuffix("_matrix") in ("csr", "csc") and np.shape(shape) == (2,):
            return _Matrix((int(shape[0]), int(shape[1])), form.startswith("csr"))
    stated = group.get("shape")  # of 10x: genes, cells
    if isinstance(stated, h5py.Dataset) and stated.shape == (2,) and stated.dtype.kind in "iu":
        genes, cells = stated[...].tolist()
        return _Matrix((cells, genes), by_rows=True)
    return None


def _at(file: h5py.File, key: str) -> h5py.Group:
    return file.get(key.encode(errors="surrogateescape"))  # a name need not be UTF-8


def is_sparse(file: h5py.File, key: str) -> bool:
    """Tell whether a name in a file is that of a group with a sparse matrix."""
    passed(file, key), passed(file, f"{key}/shape")  # opens no pipe that a link leads to
    try:
        group = _at(file, key)
        return isinstance(group, h5py.Group) and _matrix_of(group) is not None
    except (KeyError, OSError, RuntimeError, ValueError):  # it cannot be opened: who names it will be told
        return False


def open_sparse(file: h5py.File, path: Path, name: str, wanted: InputSpec, place: str, origins: Origins) -> SparseInput:
    """Return an input that is a sparse matrix, see `forms.open_input`.

    Raises DataError: parts missing or of other lengths than the shape, not numeric, keys that would have no effect.
    """
    key, where = f"dataset.inputs.{name or wanted.path}", f"{path}: {wanted.path}"
    needless = {
        "field": wanted.field is not None,
        "axis": wanted.axis not in (None, 0),
        "decode": wanted.decode == "true",
        "fill": wanted.fill is not None,
        "bytes": wanted.bytes,
        "length": wanted.length is not None,
        "lengths": wanted.lengths,
    }
    for option in [option for option, said in needless.items() if said]:
        raise DataError(f"{where} is a sparse matrix, of which {option} says nothing", f"remove {key}.{option}")
    matrix = _matrix_of(_at(file, wanted.path))
    assert matrix is not None, "is_sparse was asked"
    parts = {part: Guarded(file, path, f"{wanted.path}/{part}", place, origins) for part in _PARTS}
    rows, across = matrix.shape
    lines = rows if matrix.by_rows else across
    counts = {part: guarded.rows for part, guarded in parts.items()}
    if counts["data"] != counts["indices"] or counts["indptr"] != lines + 1 or not across:
        said = ", ".join(f"{part} {count}" for part, count in counts.items())
        raise DataError(f"{where} is said to be {rows} × {across}, and holds {said}", "it is damaged: write it again")
    types = {part: dtype_of(guarded.dataset) for part, guarded in parts.items()}
    kinds = {part: dtype.kind for part, dtype in types.items()}
    if kinds["data"] not in "iufb" or types["data"].itemsize > 8 or {kinds["indices"], kinds["indptr"]} - {"i", "u"}:
        said = ", ".join(f"{part} {dtype}" for part, dtype in types.items())
        raise DataError(f"{where} is a sparse matrix of {said}", "its numbers are integers, floats or booleans")
    facts = Input(name or wanted.path, (across,), types["data"].newbyteorder("=").str)
    return SparseInput(facts, parts["data"].dataset.parent.name, parts, rows, matrix.by_rows)
