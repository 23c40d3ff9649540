"""Families: sources of a virtual dataset that one name with `%b` stands for, block by block."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpcens.dataset.extents import slab_of
from hpcens.dataset.hdf5 import open_file
from hpcens.dataset.links import VIRTUAL, is_numbered, named_file, numbered, numbers_among, numbers_of
from hpcens.errors import DataError


@dataclass(frozen=True, slots=True)
class Family:
    """Names with `%b`: how many blocks of theirs the dataset holds, and the row at which it ends."""

    file: str
    dataset: str
    count: int
    end: int

    def check(self, home: Path, name: str) -> None:
        """Raise DataError where a later block is there: the library ends the dataset at the first that is missing.

        home  the file that names them
        name  of that file and the dataset in it, for the message
        """
        missing = f"{numbered(self.dataset, self.count)} in {numbered(self.file, self.count)}"
        if self.count and not self._goes_on(home):
            return
        end = f"ends at row {self.end}" if self.count else "has no rows"
        raise DataError(f"{name} {end} since {missing} is not there", "copy what is missing too")

    def _goes_on(self, home: Path) -> bool:
        """Tell whether there are blocks behind the last that the dataset holds."""
        if is_numbered(self.file):
            return any(number >= self.count for number in numbers_of(home, self.file))
        with open_file(named_file(home, numbered(self.file, 0), VIRTUAL) or home) as file:
            group, _, name = self.dataset.strip("/").rpartition("/")
            return any(number >= self.count for number in numbers_among(file[group or "/"], name))


def families(mapping: Any, shape: Sequence[int]) -> Iterator[Family]:
    """Yield the names with `%b` of a part of a virtual dataset of this shape."""
    slab = slab_of(mapping.vspace)
    if slab.endless is not None and (is_numbered(mapping.file_name) or is_numbered(mapping.dset_name)):
        size = shape[slab.endless]
        yield Family(mapping.file_name, mapping.dset_name, slab.along(slab.endless, size).number, size)
