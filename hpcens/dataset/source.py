"""The dataset: rows of one or more HDF5 files, read by segment. Checked before anything is queued."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np

from hpcens.dataset.file import Input, Part, stamp, told
from hpcens.dataset.selection import Selection, Span, Where
from hpcens.errors import DataError
from hpcens.specs import DatasetSpec
from hpcens.vocabulary import Rows, Segmentation

_SAMPLES = 64
_SAMPLED_BYTES = 64 << 20
_MOST_THREADS = 4
_MOST_OPEN = 8
_PLACES = 4  # in a dataset, of a sample of its rows


@dataclass(frozen=True, slots=True)
class Facts:
    """What a dataset is. rows: those to be scored; inputs: in order; identity: see `Source.facts`."""

    rows: int
    inputs: tuple[Input, ...]
    identity: dict[str, Any]

    @property
    def row_bytes(self) -> int:
        return sum(of.row_bytes for of in self.inputs)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(of.name for of in self.inputs)

    @property
    def row(self) -> str:
        """Shapes and dtypes of a row as text."""
        return " + ".join(f"{of.dtype}{list(of.shape)}" for of in self.inputs)


class Source:
    """A dataset: the selected rows of its files, one file after another.

    paths  in this order; rows of the first come first
    limit  only the first so many of the selected rows
    Raises DataError: see `Part`; and where files differ in their inputs, or nothing is selected.
    """

    def __init__(self, paths: Sequence[Path], spec: DatasetSpec, limit: int | None = None) -> None:
        self._paths = tuple(paths)
        self._spec = spec
        self._threads = min(_MOST_THREADS, len(os.sched_getaffinity(0)))
        self._pool = ThreadPoolExecutor(self._threads, "decompress")
        self._open: OrderedDict[int, tuple[Part, Selection]] = OrderedDict()
        self._firsts: list[int] = []
        self.inputs: tuple[Input, ...] = ()
        selected = []
        in_all = 0
        for i, path in enumerate(self._paths):
            self._firsts.append(in_all)
            part, selection = self._part(i)
            if i and part.inputs != self.inputs:
                raise DataError(
                    f"{path}: rows are {_kinds(part.inputs)}, in {self._paths[0]} {_kinds(self.inputs)}", _ALIKE
                )
            self.inputs = part.inputs
            selected.append(selection.rows)
            in_all += part.rows
        self._ends = list(accumulate(selected))
        if not self._ends[-1]:
            raise DataError(f"{self._paths[0]}: dataset.select selects none of {in_all} rows", "nothing to score")
        self.rows = min(self._ends[-1], limit or self._ends[-1])

    @property
    def row_bytes(self) -> int:
        return sum(of.row_bytes for of in self.inputs)

    @property
    def tall(self) -> int:
        """Rows of the tallest chunk of the first file: what is read at once."""
        return self._part(0)[0].tall

    def _part(self, index: int) -> tuple[Part, Selection]:
        """The file, opened; of many files the last used are kept open."""
        if index not in self._open:
            part = Part(self._paths[index], self._spec)
            selection = part.select(self._firsts[index])
            end = selection.stop if isinstance(selection, Span) else part.rows
            part.open_tables(self._pool, self._threads, end)
            self._open[index] = part, selection
            while len(self._open) > _MOST_OPEN:
                _, (old, _) = self._open.popitem(last=False)
                old.close()
        self._open.move_to_end(index)
        return self._open[index]

    def facts(self) -> Facts:
        """Identity: inputs, selection and columns by name, and of each file size, time and a digest of rows.

        Raises DataError where the selection or a column does not fit.
        """
        files: dict[str, Any] = {}
        for i in range(len(self._paths)):
            part, selection = self._part(i)
            for path in self._spec.columns:
                part.column(path)
            room = _SAMPLED_BYTES // max(1, len(self._paths) * part.sample_bytes())
            known = part.identity(max(1, min(_SAMPLES // len(self._paths), room)))
            chosen = {} if self._spec.select is None else {"selected": part.check_selection(selection)}
            files[str(i + 1)] = known | chosen
        identity = {
            "rows": self.rows,
            "inputs": {of.name: self._described(of) for of in self.inputs},
            "columns": list(self._spec.columns),
            "files": files,
        }
        return Facts(self.rows, self.inputs, identity)

    def expect(self, identity: dict[str, Any]) -> None:
        """Raises DataError where a file is not what it was when these facts were taken."""
        for path, known in zip(self._paths, identity["files"].values(), strict=True):
            before, now = (known["bytes"], known["modified"]), stamp(path)
            if before != now:
                raise DataError(
                    f"{path} changed since the run was prepared: {told(before)} then, {told(now)} now",
                    "run the same command again",
                )

    def _described(self, of: Input) -> str:
        given = self._spec.given.get(of.name)
        place = "" if given is None else f"{given.path}{f' field {given.field}' if given.field else ''} "
        return f"{place}{of.dtype}{list(of.shape)}"

    def head(self, rows: int) -> Rows:
        """The first rows of each input, native byte order."""
        return self.rows_between(0, min(rows, self.rows))

    def read(self, segmentation: Segmentation, segment: int) -> Rows:
        """For each input (rows of the segment, *row shape), native byte order."""
        return self.rows_between(*segmentation.bounds(segment))

    def rows_between(self, start: int, stop: int) -> Rows:
        """Selected rows, for each input. Raises DataError naming those that cannot be read."""
        rows = tuple(np.empty((stop - start, *of.shape), of.dtype) for of in self.inputs)
        for part, where, place in self.places(start, stop):
            part.read(where, [array[place] for array in rows])
        return rows

    def places(self, start: int, stop: int) -> Iterator[tuple[Part, Where, slice]]:
        """Where selected rows lie: the file, its rows, and their place among those asked for."""
        for i, end in enumerate(self._ends):
            before = self._ends[i - 1] if i else 0
            low, high = max(start, before), min(stop, end)
            if low < high:
                part, selection = self._part(i)
                yield part, selection.where(low - before, high - before), slice(low - start, high - start)

    def parts(self) -> Iterator[Part]:
        """Every file in turn; an earlier one may be closed when the next is there."""
        return (self._part(i)[0] for i in range(len(self._paths)))

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)
        for part, _ in self._open.values():
            part.close()
        self._open.clear()


_ALIKE = "all files of one dataset have rows of one shape and dtype"


def _kinds(inputs: Sequence[Input]) -> str:
    return " + ".join(f"{of.dtype}{list(of.shape)}" for of in inputs)


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
