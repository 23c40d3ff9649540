"""The guard: a dataset of an open file, and all files that its rows come from, watched while they are read."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence, Set
from pathlib import Path

import h5py

from hpcens.dataset.descriptors import descriptors, most_open, without_descriptor
from hpcens.dataset.hdf5 import find_dataset, read_rows
from hpcens.dataset.links import passed
from hpcens.dataset.selection import Where
from hpcens.dataset.sources import Sources, require_sources
from hpcens.dataset.stamps import Stamps
from hpcens.errors import DataError, HpcensError
from hpcens.vocabulary import Array


class Origins:
    """What is known of the files behind one file, kept while that is closed and opened again.

    rows     of the file; None before it was opened
    stamps   of all, its own too
    sources  of its datasets, by name
    """

    def __init__(self) -> None:
        self.rows: int | None = None
        self.stamps = Stamps()
        self.sources: dict[str, Sources] = {}


class Guarded:
    """A dataset that is read only under its guard."""

    def __init__(self, file: h5py.File, path: Path, key: str, place: str, origins: Origins) -> None:
        """Find the dataset, see `find_dataset`. path: of the file."""
        try:
            self.dataset = find_dataset(file, key, place)
        except DataError:
            require_sources(file, key)  # which may be the cause
            raise
        self.opened: set[Path] = set()  # sources that stay open as long as the dataset
        if key not in origins.sources:
            home = Path(self.dataset.file.filename)
            behind = (other for other in (*passed(file, key), home) if not other.samefile(path))
            origins.sources[key] = Sources(self.dataset, behind)
        self.sources = origins.sources[key]
        self._path = path
        self._stamps = origins.stamps

    @contextlib.contextmanager
    def reading(self, where: Where) -> Iterator[None]:
        """Vouch for what the block reads of these rows.

        Raises DataError where a file that they come from is missing, or changed since it was first read or, before
        that, since the run was prepared; HpcensError where the library could not open one and filled its rows.
        """
        sources = list(dict.fromkeys(self.sources.touched(where)))
        paths = [self._path, *(source.path for source in sources)]
        self._stamps.require(paths)
        fresh = [source.path for source in sources if source.filled and source.path not in self.opened]
        before = descriptors() if fresh else set()
        try:
            yield
        except DataError:
            self._stamps.require(paths)  # rather the cause than that rows could not be read
            raise
        self._stamps.require(paths)
        self._require_open(fresh, before)

    def _require_open(self, fresh: Sequence[Path], before: Set[str]) -> None:
        """Raise HpcensError where the library has not opened a source that it was to read."""
        for path in without_descriptor(fresh, before) if fresh else ():
            raise HpcensError(
                f"{self._path}: {self.dataset.name}: {path}, one of {len(fresh)} files behind rows that were read at"
                " once, could not be opened, and HDF5 filled its rows",
                f"run it again; if it stays so, let a process open more than {most_open()} files (ulimit -n)",
            )
        self.opened.update(fresh)

    def read_rows(self, start: int, stop: int) -> Array:
        """Read rows through the library. Raises DataError naming them where they cannot be read."""
        with self.reading(slice(start, stop)):
            return read_rows(self.dataset, start, stop)
