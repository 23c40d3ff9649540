"""The guard: a dataset of an open file, and all files that its rows come from, watched while they are read."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence, Set
from pathlib import Path

import h5py
import numpy as np

from hpcens.dataset.descriptors import descriptors, most_open, without_descriptor
from hpcens.dataset.hdf5 import find_dataset, read_rows
from hpcens.dataset.links import passed
from hpcens.dataset.selection import Where
from hpcens.dataset.sources import Sources, require_sources
from hpcens.dataset.stamps import Stamps
from hpcens.errors import DataError, HpcensError
from hpcens.vocabulary import Array

MATLAB = "MATLAB_class"
"""An attribute that MATLAB gives every dataset; its axes are in the order opposite to MATLAB's."""


class Origins:
    """What is known of the files behind one file, kept while that is closed and opened again.

    rows     of the file; None before it was opened
    stamps   of all, its own too
    sources  of its datasets, by name and axis of the rows
    trusted  whether raw data may lie outside the folder of the file that names it
    """

    def __init__(self, *, trusted: bool) -> None:
        self.rows: int | None = None
        self.stamps = Stamps()
        self.sources: dict[tuple[str, int], Sources] = {}
        self.trusted = trusted


class Guarded:
    """A dataset that is read only under its guard."""

    def __init__(
        self,
        file: h5py.File,
        path: Path,
        key: str,
        place: str,
        origins: Origins,
        *,
        axis: int | None = None,
        column: bool = False,
    ) -> None:
        """Find the dataset, see `find_dataset`.

        path    of the file
        axis    that of the rows, from the end where it is negative; None: the first
        column  whether it may be a vector of MATLAB, to which all is a matrix: a value a row then, wherever they lie
        Raises DataError, too, where it has no such axis.
        """
        try:
            self.dataset = find_dataset(file, key, place)
        except DataError:
            require_sources(file, key)  # which may be the cause
            raise
        self.opened: set[Path] = set()  # sources that stay open as long as the dataset
        self.is_vector = column and MATLAB in self.dataset.attrs and sorted(self.dataset.shape)[:-1] == [1]
        axis = int(np.argmax(self.dataset.shape)) if self.is_vector else axis
        if not -self.dataset.ndim <= (axis or 0) < self.dataset.ndim:
            what = f"{path}: {self.dataset.name} has {self.dataset.ndim} axes (shape {self.dataset.shape}), none {axis}"
            raise DataError(what, f"correct {place}.axis, which counts from 0")
        self.axis = (axis or 0) % self.dataset.ndim
        if (key, self.axis) not in origins.sources:
            home = Path(self.dataset.file.filename)
            behind = (other for other in (*passed(file, key), home) if not other.samefile(path))
            origins.sources[key, self.axis] = Sources(self.dataset, behind, self.axis, trusted=origins.trusted)
        self.sources = origins.sources[key, self.axis]
        self.path = path
        self._stamps = origins.stamps

    @property
    def rows(self) -> int:
        """Number of rows in the file, selected or not."""
        return int(self.dataset.shape[self.axis])

    @property
    def row_shape(self) -> tuple[int, ...]:
        """Shape of one row: the dataset's without the axis of the rows; () in a vector."""
        shape: tuple[int, ...] = self.dataset.shape
        return () if self.is_vector else (*shape[: self.axis], *shape[self.axis + 1 :])

    @contextlib.contextmanager
    def reading(self, where: Where) -> Iterator[None]:
        """Vouch for what the block reads of these rows.

        Raises DataError where a file that they come from is missing, or changed since it was first read or, before
        that, since the run was prepared; HpcensError where the library could not open one and filled its rows.
        """
        try:
            sources = list(dict.fromkeys(self.sources.touched(where)))
        except DataError:
            self._stamps.require(self.sources.named())  # rather the cause than that one could not be opened
            raise
        paths = [self.path, *(source.path for source in sources)]
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
                f"{self.path}: {self.dataset.name}: {path}, one of {len(fresh)} files behind rows that were read at"
                " once, could not be opened, and HDF5 filled its rows",
                f"run it again; if it stays so, let a process open more than {most_open()} files (ulimit -n)",
            )
        self.opened.update(fresh)

    def read_rows(self, start: int, stop: int) -> Array:
        """Read rows through the library. Raises DataError naming them where they cannot be read."""
        with self.reading(slice(start, stop)):
            rows = read_rows(self.dataset, start, stop, self.axis)
        return rows.reshape(-1) if self.is_vector else rows
