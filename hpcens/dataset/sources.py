"""Sources: the files other than its own from which a dataset takes rows, looked up by rows.

They lie behind external links, virtual datasets and external storage, one behind another. Of what the HDF5 library
cannot open behind a virtual dataset, for whatever reason, it reads the fill value and says nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from operator import gt
from pathlib import Path
from typing import Any, NamedTuple

import h5py

from hpcens.dataset.extents import Blocks, Extents, Slab, slab_of
from hpcens.dataset.families import families
from hpcens.dataset.hdf5 import find_dataset, open_file
from hpcens.dataset.links import (
    VIRTUAL,
    is_numbered,
    named_file,
    numbered,
    numbers_of,
    passed,
    require_inside,
    require_regular,
    storage_file,
)
from hpcens.dataset.selection import Where
from hpcens.errors import DataError

_SAME_FILE = "."
_DEEPEST = 16
_REMEDY = "copy it too, whole: where it is not, HDF5 reads zeros; or score the files that are there"


class SourceFile(NamedTuple):
    """A file that rows come from.

    filled  whether the library fills these rows, and says nothing, where it cannot open the file
    """

    path: Path
    filled: bool


@dataclass(frozen=True, slots=True)
class _Stored:
    """A file of external storage: the rows in it, and the bytes it has to hold."""

    path: Path
    rows: Blocks
    size: int


@dataclass(frozen=True, slots=True)
class _Piece:
    """A part of a virtual dataset.

    file, dataset  names of its source
    rows           that it supplies
    taken          selection in the source
    needed         of it: along its axis without end; where it has none, elements in all
    """

    file: str
    dataset: str
    rows: Blocks
    taken: Slab
    needed: int


@dataclass(frozen=True, slots=True, eq=False)
class _Source:
    """A piece's source, as it was found.

    path        its file; None where that is the dataset's own
    home        the file that the source's dataset lies in, where links lead on
    attributes  names of those that the source's dataset has
    sources     what it takes rows from in its turn
    """

    path: Path | None
    home: Path
    shape: tuple[int, ...]
    attributes: frozenset[str]
    sources: Sources


class Sources:
    """The files that the rows of one dataset come from, but for its own. They are opened when first asked about."""

    def __init__(
        self, dataset: h5py.Dataset, behind: Iterable[Path] = (), axis: int = 0, depth: int = 0, *, trusted: bool
    ) -> None:
        """Look up what the dataset names.

        behind  files that links led through to the dataset
        axis    that of its rows
        depth   of virtual datasets that this one is a source of
        trusted  whether raw data may lie outside the folder of the file that names it
        Raises DataError where it does and may not.
        """
        self._home = Path(dataset.file.filename)
        self._name = f"{self._home}: {dataset.name}"
        self._axis = axis
        self._depth = depth
        self._behind = tuple(dict.fromkeys(behind))
        self._trusted = trusted
        self._stored = list(_stored(dataset, self._home, axis))
        if not trusted:
            for stored in self._stored:
                require_inside(stored.path, self._home, self._name)
        mappings = dataset.virtual_sources() if dataset.is_virtual else []
        self._pieces = [piece for mapping in mappings for piece in _pieces(mapping, dataset.shape, axis)]
        self._families = [family for mapping in mappings for family in families(mapping, dataset.shape)]
        self._rows_stored = Extents([stored.rows for stored in self._stored])
        self._rows_of_pieces = Extents([piece.rows for piece in self._pieces])
        self._sources: dict[tuple[str, str], _Source] = {}

    def touched(self, where: Where) -> Iterator[SourceFile]:
        """Yield the files that these rows come from.

        Raises DataError where one is missing, cannot be opened, or lacks the dataset that is to be in it.
        """
        yield from (SourceFile(path, filled=self._depth > 0 and path == self._home) for path in self._behind)
        for place in self._rows_stored.touched(where).tolist():
            yield SourceFile(self._stored[place].path, filled=False)
        for place in self._rows_of_pieces.touched(where).tolist():
            piece = self._pieces[place]
            source = self._source(piece)
            if source.path is not None:
                yield SourceFile(source.path, filled=source.path == source.home)
            yield from source.sources.touched(self._within(piece, source, where))

    def named(self) -> Iterator[Path]:
        """Yield the files that the dataset itself names, and that are there; none is opened."""
        yield from self._behind
        yield from (stored.path for stored in self._stored if stored.path.exists())
        for name in dict.fromkeys(piece.file for piece in self._pieces if piece.file != _SAME_FILE):
            path = named_file(self._home, name, VIRTUAL)
            if path is not None:
                yield path

    def check(self) -> Iterator[Path]:
        """Yield all files. Raises DataError where one is missing, cannot be opened, or lacks what it is to hold."""
        yield from self._behind
        for stored in self._stored:
            self._check_stored(stored)
            yield stored.path
        met: set[_Source] = set()
        for piece in self._pieces:
            source = self._check_piece(piece)
            if source not in met:
                met.add(source)
                yield from (path for path in (source.path,) if path is not None)
                yield from source.sources.check()
        for family in self._families:
            family.check(self._home, self._name)

    def attributes(self) -> Iterator[tuple[Path, frozenset[str]]]:
        """Yield the files of sources that were opened so far, and the names of the attributes of what is read there."""
        for source in self._sources.values():
            yield source.home, source.attributes
            yield from source.sources.attributes()

    def _check_stored(self, stored: _Stored) -> None:
        require_regular(stored.path, f"in which {self._name} is stored")
        held = stored.path.stat().st_size if stored.path.exists() else -1
        if held < stored.size:
            state = "is not there" if held < 0 else f"has {held} bytes, not {stored.size}"
            raise DataError(
                f"{self._name}: {_described(stored.rows)} are stored in {stored.path}, which {state}", _REMEDY
            )

    def _check_piece(self, piece: _Piece) -> _Source:
        source = self._source(piece)
        endless, ends = piece.taken.endless, piece.taken.ends
        if endless is not None:
            short = piece.taken.along(endless, source.shape[endless]).rows < piece.needed
        elif ends is None:
            short = math.prod(source.shape) != piece.needed
        else:
            short = len(ends) != len(source.shape) or any(map(gt, ends, source.shape))
        if short:
            where = f"{self._name}: {_described(piece.rows)} come from {piece.dataset} in {source.path or self._home}"
            raise DataError(f"{where}, which does not hold them: its shape is {source.shape}", _REMEDY)
        return source

    def _source(self, piece: _Piece) -> _Source:
        key = piece.file, piece.dataset
        if key not in self._sources:
            self._sources[key] = self._find(piece)
        return self._sources[key]

    def _find(self, piece: _Piece) -> _Source:
        """Open a piece's source, as the library will; raise DataError where it could not."""
        where = f"{self._name}: {_described(piece.rows)} come from {piece.dataset} in {piece.file}"
        if self._depth == _DEEPEST:
            raise DataError(f"{where}: {_DEEPEST} virtual datasets, one behind another", "it may be its own source")
        path = None if piece.file == _SAME_FILE else named_file(self._home, piece.file, VIRTUAL)
        if path is None and piece.file != _SAME_FILE:
            raise DataError(f"{where}, which is not there", _REMEDY)
        try:
            with open_file(path or self._home) as file:
                dataset = find_dataset(file, piece.dataset, "the virtual dataset")
                behind = passed(file, piece.dataset)
                sources = Sources(dataset, behind, depth=self._depth + 1, trusted=self._trusted)
                home, attributes = Path(dataset.file.filename), frozenset(dataset.attrs)
                return _Source(path, home, dataset.shape, attributes, sources)
        except DataError as error:
            raise DataError(f"{where}: {error.what}", error.remedy) from None

    def _within(self, piece: _Piece, source: _Source, where: Where) -> slice:
        """Return rows of a piece's source, at least those that supply these of the dataset."""
        low, high = (where.start, where.stop) if isinstance(where, slice) else (int(where.min()), int(where.max()) + 1)
        rows, taken = piece.rows, piece.taken.along(0, source.shape[0])
        alike = rows.rows == taken.rows if piece.taken.endless is None else piece.needed == rows.rows
        if self._axis or not (alike and rows.in_one and taken.in_one):
            return slice(taken.first, taken.end)
        return slice(max(low, rows.first) - rows.first + taken.first, min(high, rows.end) - rows.first + taken.first)


def require_sources(file: h5py.File, key: str) -> None:
    """Raise DataError where a file that a virtual dataset names is not there, or cannot be opened; else do nothing."""
    passed(file, key)  # raises, too, where a link leads to a pipe, for which the library would wait
    dataset = file.get(key.encode(errors="surrogateescape"))
    if isinstance(dataset, h5py.Dataset) and dataset.is_virtual:
        home, name = Path(dataset.file.filename), dataset.name
        for mapping in dataset.virtual_sources():
            numbers = [0, *numbers_of(home, mapping.file_name)] if is_numbered(mapping.file_name) else [0]
            for source in (numbered(mapping.file_name, number) for number in numbers):
                path = named_file(home, source, VIRTUAL) if source != _SAME_FILE else home
                if path is None:
                    raise DataError(f"{home}: {name} takes rows from {source}, which is not there", _REMEDY)
                open_file(path).close()


def _described(rows: Blocks) -> str:
    return f"rows {rows.first}–{rows.end - 1}"


def _stored(dataset: h5py.Dataset, home: Path, axis: int) -> Iterator[_Stored]:
    """Yield the files of external storage, one after another."""
    if not dataset.external or not dataset.size:
        return
    rows, whole = dataset.shape[axis], dataset.size * dataset.id.get_type().get_size()
    row_bytes = whole // dataset.shape[0]
    start = 0
    for name, offset, size in dataset.external:
        held = min(size, whole - start)
        first, end = start // row_bytes, -(-(start + held) // row_bytes)
        blocks = Blocks(first, end - first, 1, end - first) if axis == 0 else Blocks(0, rows, 1, rows)
        if held > 0:
            yield _Stored(storage_file(home, name), blocks, offset + held)
        start += held


def _pieces(mapping: Any, shape: Sequence[int], axis: int) -> Iterator[_Piece]:
    """Yield a part of a virtual dataset of this shape; of a name with `%b`, one for each block."""
    slab, taken = slab_of(mapping.vspace), slab_of(mapping.src_space)
    file, inside = mapping.file_name, mapping.dset_name
    sides = [slab.along(side, size) for side, size in enumerate(shape)]
    if slab.endless is None:
        points = mapping.vspace.get_select_npoints()
        yield _Piece(numbered(file, 0), numbered(inside, 0), sides[axis], taken, points)
    elif not (is_numbered(file) or is_numbered(inside)):
        yield _Piece(numbered(file, 0), numbered(inside, 0), sides[axis], taken, sides[slab.endless].rows)
    else:
        blocks = sides[slab.endless]
        for number in range(blocks.number):
            sides[slab.endless] = Blocks(blocks.first + number * blocks.step, blocks.step, 1, blocks.size)
            points = math.prod(side.rows for side in sides)
            yield _Piece(numbered(file, number), numbered(inside, number), sides[axis], taken, points)
