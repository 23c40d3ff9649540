"""The dataset: rows of one or more HDF5 files, read by segment. Checked before anything is queued."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np

from hpcens.arrays import Kind, bytes_of, laid_out
from hpcens.dataset.descriptors import most_open
from hpcens.dataset.file import DatasetFile, Look
from hpcens.dataset.guard import Origins
from hpcens.dataset.inputs import Input
from hpcens.dataset.routed import Routed
from hpcens.dataset.selection import Selection, Span, Where
from hpcens.dataset.threads import Threads
from hpcens.errors import DataError
from hpcens.processes.memory import free_memory
from hpcens.specs import DatasetSpec
from hpcens.vocabulary import Array, Rows, Segmentation

_SAMPLES = 64
_SAMPLED_BYTES = 64 << 20
_MOST_OPEN = 8
_MOST_SOURCES = 512  # of virtual datasets: the more are open, the slower the library opens another
_MEMORY_PARTS = 4  # one for chunks that are kept, others for batches, for ranks beside this one, and for their like
_PLACES = 4  # in a dataset, of a sample of its rows
_SPREAD_PLACES = 16  # of rows that are spread over it
_SPREAD_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class Facts:
    """What a dataset is.

    rows      number of rows to be scored
    inputs    in order
    identity  see `Source.facts`
    filled    input → share of the rows looked at in which it holds a fill value
    pixels    inputs that look like images whose values are not scaled, in all files
    remarks   what is to be said of the dataset before it is scored
    routed    how its rows are divided among members; None where each member scores all
    """

    rows: int
    inputs: tuple[Input, ...]
    identity: dict[str, Any]
    filled: Mapping[str, float] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()
    routed: Routed | None = None
    pixels: tuple[str, ...] = ()

    @property
    def parts(self) -> dict[str, float]:
        """Member → the part of the rows that it scores, above 0; those that score all are absent."""
        counts = self.routed.rows.items() if self.routed else ()
        return {member: max(1, rows) / self.rows for member, rows in counts if rows < self.rows}

    @property
    def sets(self) -> tuple[tuple[str, ...], ...]:
        """Sets of members that rows have, where not every member scores all."""
        return self.routed.sets if self.routed else ()

    @property
    def row_bytes(self) -> int:
        """Bytes of one row over all inputs."""
        return sum(each.row_bytes for each in self.inputs)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the inputs, in the order in which members are called with them."""
        return tuple(each.name for each in self.inputs)

    @property
    def row(self) -> str:
        """Shapes and dtypes of a row as text."""
        return " + ".join(f"{each.dtype}{list(each.shape)}" for each in self.inputs)


class Source:
    """A dataset: the selected rows of its files, one file after another."""

    def __init__(
        self, paths: Sequence[Path], spec: DatasetSpec, limit: int | None = None, threads: int | None = None
    ) -> None:
        """Open a dataset.

        paths    its files; rows of the first come first
        limit    number of the selected rows that are taken, the first ones; None: all
        threads  number of those that read, see `Threads`
        Raises DataError: see `DatasetFile`; and where files differ in their inputs, or nothing is selected.
        """
        self._paths = tuple(paths)
        self._spec = spec
        self.threads = Threads(threads)
        self._budget = free_memory() // _MEMORY_PARTS // max(1, len(spec.input_specs))
        self._open: OrderedDict[int, tuple[DatasetFile, Selection]] = OrderedDict()
        self._firsts: list[int] = []
        self._origins = tuple(Origins(trusted="file_access" in spec.trust) for _ in self._paths)
        self.inputs: tuple[Input, ...] = ()
        selected = []
        in_all = 0
        for i, path in enumerate(self._paths):
            self._firsts.append(in_all)
            file, selection = self._file(i)
            if i and file.inputs != self.inputs:
                raise DataError(
                    f"{path}: rows are {_kinds(file.inputs)}, in {self._paths[0]} {_kinds(self.inputs)}", _ALIKE
                )
            self.inputs = file.inputs
            selected.append(selection.rows)
            in_all += file.rows
        self._ends = list(accumulate(selected))
        if not self._ends[-1]:
            raise DataError(f"{self._paths[0]}: dataset.select selects none of {in_all} rows", "nothing to score")
        self.rows = min(self._ends[-1], limit or self._ends[-1])

    @property
    def row_bytes(self) -> int:
        """Bytes of one row over all inputs."""
        return sum(each.row_bytes for each in self.inputs)

    @property
    def tall(self) -> int:
        """Rows of the tallest chunk of the first file: what is read at once."""
        return self._file(0)[0].tall

    def _file(self, index: int) -> tuple[DatasetFile, Selection]:
        """Return a file, opened, with what is selected of it; of many files the last used are kept open."""
        if index not in self._open:
            file = DatasetFile(self._paths[index], self._spec, self._origins[index])
            selection = file.select(self._firsts[index])
            end = selection.stop if isinstance(selection, Span) else file.rows
            file.open_tables(self.threads, end, self._budget)
            self._open[index] = file, selection
            while len(self._open) > _MOST_OPEN:
                _, (oldest, _) = self._open.popitem(last=False)
                oldest.close()
        self._open.move_to_end(index)
        return self._open[index]

    def find_chunks(self) -> None:
        """Find now where chunks of the first file lie, which the first reading would do."""
        self._file(0)[0].find_chunks()

    @property
    def lies_along_rows(self) -> bool:
        """Whether so much is behind a row of the first file that chunks cannot simply be kept."""
        return any(table.layout.lies_along_rows for table in self._file(0)[0].tables)

    def seconds_a_row(self, place: float, most: int) -> float | None:
        """Return what a row of the first file takes to read, where its chunks lie along the rows; None where not.

        place  in the file, 0 … 1
        most   bytes to decompress of each such input, unless one chunk has more
        """
        tables = [table for table in self._file(0)[0].tables if table.layout.lies_along_rows]
        return sum(table.seconds_a_row(place, most) for table in tables) if tables else None

    def facts(self) -> Facts:
        """Return what the dataset is: inputs, selection and columns by name; of each file size, time and a digest.

        Raises DataError where the selection or a column does not fit.
        """
        files: dict[str, Any] = {}
        looks: list[Look] = []
        for i in range(len(self._paths)):
            file, selection = self._file(i)
            for path in self._spec.columns:
                file.column(path)
            room = _SAMPLED_BYTES // max(1, len(self._paths) * file.sample_bytes())
            looks.append(file.look(max(1, min(_SAMPLES // len(self._paths), room)), selection))
            chosen = {} if self._spec.select is None else {"selected": file.check_selection(selection)}
            files[str(i + 1)] = looks[-1].identity | chosen
        identity = {
            "rows": self.rows,
            "inputs": self._file(0)[0].descriptions,
            "columns": list(self._spec.columns),
            "files": files,
        }
        sampled = sum(look.sampled for look in looks)
        filled = {each.name: sum(look.filled[each.name] for look in looks) / sampled for each in self.inputs}
        pixels = tuple(each.name for each in self.inputs if all(each.name in look.pixels for look in looks))
        return Facts(self.rows, self.inputs, identity, filled, _remarks(looks), pixels=pixels)

    def expect(self, identity: Mapping[str, Any]) -> None:
        """Raise DataError where a file is not what it was when this identity was taken; here, or when it is read."""
        for i, prepared in enumerate(identity["files"].values()):
            self._file(i)[0].expect(prepared)

    def head(self, rows: int) -> Rows:
        """Read the first rows of each input, (rows, *row shape) each, in native byte order."""
        return self.rows_between(0, min(rows, self.rows))

    def read(self, segmentation: Segmentation, segment: int, memory: Array | None = None) -> Rows:
        """Read a segment: of each input (rows of the segment, *row shape), in native byte order. See `rows_between`."""
        return self.rows_between(*segmentation.bounds(segment), memory)

    def bytes_of(self, rows: int) -> int:
        """Return the bytes of memory into which so many rows are read."""
        return bytes_of(self._kinds(rows))

    def _kinds(self, rows: int) -> list[Kind]:
        return [((rows, *each.shape), each.dtype) for each in self.inputs]

    def rows_between(self, start: int, stop: int, memory: Array | None = None) -> Rows:
        """Read selected rows of each input. Raises DataError naming those that cannot be read.

        memory  uint8 (bytes,), aligned, where they are to lie one input behind another; None: in memory of their own
        """
        kinds = self._kinds(stop - start)
        rows = tuple(np.empty(*kind) for kind in kinds) if memory is None else laid_out(memory, kinds)
        for file, where, place in self.places(start, stop):
            file.read(where, [array[place] for array in rows])
        if sum(file.sources_open for file, _ in self._open.values()) > min(_MOST_SOURCES, most_open() // 2):
            self._close_files()  # a virtual dataset keeps every source open that it was read from
        return rows

    def places(self, start: int, stop: int) -> Iterator[tuple[DatasetFile, Where, slice]]:
        """Locate selected rows: the file, its rows, and their place among those asked for."""
        for i, end in enumerate(self._ends):
            before = self._ends[i - 1] if i else 0
            low, high = max(start, before), min(stop, end)
            if low < high:
                file, selection = self._file(i)
                yield file, selection.where(low - before, high - before), slice(low - start, high - start)

    def files(self) -> Iterator[DatasetFile]:
        """Yield every file in turn; an earlier one may be closed when the next is there."""
        return (self._file(i)[0] for i in range(len(self._paths)))

    def close(self) -> None:
        """Stop the threads that read, drop what is still to be read, and close the files."""
        self.threads.close()
        self._close_files()

    def _close_files(self) -> None:
        for file, _ in self._open.values():
            file.close()
        self._open.clear()


def _remarks(looks: Sequence[Look]) -> tuple[str, ...]:
    """Return what is to be said of the first file, and whether that goes for the others."""
    first = looks[0].remarks
    packed = [{key: text for key, text in look.identity.items() if key.startswith("decode ")} for look in looks]
    others = sum(each != packed[0] for each in packed)
    more = f"{others} of {len(looks)} files are packed otherwise than the first: each by its own attributes"
    return (*first, more) if others else first


_ALIKE = "all files of one dataset have rows of one shape and dtype"


def _kinds(inputs: Sequence[Input]) -> str:
    return " + ".join(f"{each.dtype}{list(each.shape)}" for each in inputs)


def spread_rows(paths: Sequence[Path], spec: DatasetSpec, limit: int | None, rows: int) -> Rows:
    """Read rows from the middles of equal parts of a dataset, for each input: few of them are in `sample_rows`.

    rows  how many; fewer where the dataset has fewer, or they would be too large together
    Raises DataError as `Source`.
    """
    source = Source(paths, spec, limit)
    rows = max(1, min(rows, source.rows, _SPREAD_BYTES // max(1, source.row_bytes)))
    part = -(-rows // _SPREAD_PLACES)
    places = rows // part
    firsts = [(2 * place + 1) * (source.rows - part) // (2 * places) for place in range(places)]
    pieces = [source.rows_between(first, first + part) for first in firsts]
    source.close()
    return tuple(np.concatenate(arrays) for arrays in zip(*pieces, strict=True))


def sample_rows(paths: Sequence[Path], spec: DatasetSpec, limit: int | None, rows: int) -> Rows:
    """Read rows from a dataset's head, its middle and its end, for each input.

    rows  how many, of all places together; fewer where the dataset has fewer
    Raises DataError as `Source`.
    """
    source = Source(paths, spec, limit)
    rows = min(rows, source.rows)
    part = -(-rows // _PLACES)
    firsts = [place * (source.rows - part) // (_PLACES - 1) for place in range(_PLACES)]
    pieces = [source.rows_between(first, first + part) for first in firsts]
    source.close()
    return tuple(np.concatenate(arrays)[:rows] for arrays in zip(*pieces, strict=True))
