"""One file of the dataset, opened read only; it is neither locked nor touched."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from hpcens.dataset.guard import Guarded, Origins
from hpcens.dataset.hdf5 import bytes_behind_a_row, kind_of, listed, only_dataset, open_file
from hpcens.dataset.selection import Listed, Marked, Selection, Span, Where
from hpcens.dataset.stamps import SETTLE, describe_file, describe_stamp, stamp
from hpcens.dataset.table import Chunked, Plain, Target, open_table
from hpcens.errors import DataError
from hpcens.specs import DatasetSpec, InputSpec
from hpcens.vocabulary import Array

_BLOCK = 1 << 20


@dataclass(frozen=True, slots=True)
class Input:
    """One input of the dataset: its name, and the shape and dtype of a row in memory."""

    name: str
    shape: tuple[int, ...]
    dtype: str

    @property
    def row_bytes(self) -> int:
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize


class DatasetFile:
    """One open file: `rows` in all, its `inputs`, what is selected of it.

    Its methods raise DataError: not to be opened; no such dataset or field; not numeric; missing filter; inputs,
    mask or columns of other lengths; indices out of range.
    """

    def __init__(self, path: Path, spec: DatasetSpec, origins: Origins) -> None:
        """Open the file and find its inputs. origins: what is known of it from before, or will be."""
        self.path = path
        self._file = open_file(path)
        self._stamp = stamp(path)
        self._origins = origins
        origins.stamps.require([path])
        self._spec = spec
        self._input_specs = spec.input_specs or {"": InputSpec(path=only_dataset(self._file, path))}
        self._guarded = self._find()
        if any(guarded.dataset.is_virtual for guarded in self._guarded.values()):
            self._guarded.clear()
            self._file.close()
            self._file = open_file(path, virtual=True)
            self._guarded = self._find()
        self._datasets = {name: guarded.dataset for name, guarded in self._guarded.items()}
        self.inputs = tuple(self._input(name, wanted) for name, wanted in self._input_specs.items())
        lengths = {dataset.name: dataset.shape[0] for dataset in self._datasets.values()}
        self.rows = next(iter(lengths.values()))
        if len(set(lengths.values())) > 1:
            each = ", ".join(f"{name} {rows}" for name, rows in lengths.items())
            raise DataError(f"{path}: the inputs differ in rows: {each}", "every input has one row a sample")
        if origins.rows not in (None, self.rows):  # a block of a virtual dataset is gone
            raise DataError(f"{path} had {origins.rows} rows before, and has {self.rows} now", SETTLE)
        origins.rows = self.rows
        self._tables: dict[str, Plain | Chunked] = {}

    def _find(self) -> dict[str, Guarded]:
        return {name: self._guard(wanted.path, "dataset.inputs") for name, wanted in self._input_specs.items()}

    def _guard(self, path: str, place: str) -> Guarded:
        return Guarded(self._file, self.path, path, place, self._origins)

    def _input(self, name: str, wanted: InputSpec) -> Input:
        dataset = self._datasets[name]
        where = f"{self.path}: {dataset.name}"
        dtype = dataset.dtype
        if (field := wanted.field) is not None:
            fields = dtype.fields or {}
            if field not in fields:
                raise DataError(f"{where} has no field {field!r}", f"it has: {listed(list(fields)) or 'no fields'}")
            where, dtype = f"{where}, field {field},", fields[field][0]
        elif dtype.fields:
            raise DataError(
                f"{where} is a compound of fields: {listed(list(dtype.fields))}",
                f"name one: dataset.inputs: {{{name or 'x'}: {{path: {wanted.path},"
                f" field: {next(iter(dtype.fields))}}}}}",
            )
        kind = dtype.base
        if kind.kind not in "iufb" or kind.itemsize > 8:
            what = (
                "complex numbers" if kind.kind == "c" else "no numbers" if kind.kind in "OSUV" else "numbers too wide"
            )
            raise DataError(
                f"{where} holds {what} ({kind_of(kind)})",
                "inputs are integers, floats of at most 64 bits, or booleans: name another dataset.input in the YAML",
            )
        shape = (*dataset.shape[1:], *dtype.shape)
        if math.prod(shape) == 0:
            raise DataError(f"{where} has empty rows (shape {dataset.shape})", "nothing to score")
        return Input(name or wanted.path, shape, kind.newbyteorder("=").str)

    def select(self, first: int) -> Selection:
        """Return what is selected of this file.

        first  number of its first row in the whole dataset, in which a range counts
        """
        select = self._spec.select
        if select is None or select.path is None:
            start, stop = (select.start or 0, select.stop) if select else (0, None)
            low = min(self.rows, max(0, start - first))
            return Span(low, self.rows if stop is None else max(low, min(self.rows, stop - first)))
        chosen = self._guard(select.path, "dataset.select").dataset
        where = f"{self.path}: {chosen.name}"
        if chosen.ndim != 1 or chosen.dtype.kind not in "biu":
            raise DataError(
                f"{where} is {kind_of(chosen.dtype)}{list(chosen.shape)} and selects nothing",
                "dataset.select names a mask (booleans, one a row) or row numbers (integers), of one dimension",
            )

        def read(start: int, stop: int) -> Array:
            return self._guard(str(select.path), "dataset.select").read_rows(start, stop)

        if chosen.dtype.kind == "b":
            if len(chosen) != self.rows:
                raise DataError(f"{where} has {len(chosen)} marks for {self.rows} rows", "a mask has one mark a row")
            return Marked(read, len(chosen))
        return Listed(read, len(chosen))

    def check_selection(self, selection: Selection) -> str:
        """Digest which rows are selected. Raises DataError where one of a list is out of range."""
        digest = hashlib.sha256()
        if isinstance(selection, Span):
            return f"{selection.start}–{selection.stop}"
        only_marks = isinstance(selection, Listed) and selection.rows == self.rows > 2
        for start in range(0, selection.rows, _BLOCK):
            where = selection.where(start, min(start + _BLOCK, selection.rows))
            rows = np.arange(where.start, where.stop) if isinstance(where, slice) else where
            wrong = np.flatnonzero((rows < 0) | (rows >= self.rows))
            if len(wrong):
                at = int(wrong[0])
                raise DataError(
                    f"{self.path}: {self._spec.select and self._spec.select.path}[{start + at}] is {rows[at]},"
                    f" and there are rows 0–{self.rows - 1}",
                    "row numbers count from 0 in their own file",
                )
            only_marks = only_marks and bool((rows <= 1).all())
            digest.update(rows.astype("<i8").tobytes())
        if only_marks:
            raise DataError(
                f"{self.path}: {self._spec.select and self._spec.select.path} holds only 0 and 1, one a row:"
                " a mask stored as integers would select rows 0 and 1 again and again",
                "store the mask as booleans",
            )
        return digest.hexdigest()[:32]

    def open_tables(self, pool: Executor, threads: int, end: int) -> None:
        """Prepare for `read`, before which this has to be called once.

        pool, threads  decompress chunks, so many at once
        end            no row from here on will be asked for
        """
        for dataset in self._datasets.values():
            if dataset.name not in self._tables:
                self._tables[dataset.name] = open_table(dataset, pool, threads, end)

    def read(self, where: Where, outs: Sequence[Array]) -> None:
        """Read rows into arrays: (rows, *row shape) of each input, in their order."""
        targets: dict[str, list[Target]] = {}
        guards: dict[str, Guarded] = {}
        for (name, wanted), out in zip(self._input_specs.items(), outs, strict=True):
            guards[self._datasets[name].name] = self._guarded[name]
            targets.setdefault(self._datasets[name].name, []).append((wanted.field, out))
        for name, fields in targets.items():
            with guards[name].reading(where):
                self._tables[name].read(where, fields)

    @property
    def tall(self) -> int:
        """Rows of the tallest chunk, 1 where nothing is chunked."""
        return max((dataset.chunks or (1,))[0] for dataset in self._datasets.values())

    def column(self, path: str) -> Guarded:
        """Return a pass-through column, one value (of any shape) a row."""
        guarded = self._guard(path, "dataset.columns")
        column = guarded.dataset
        where = f"{self.path}: {column.name}"
        if column.shape[0] != self.rows:
            raise DataError(
                f"{where} has {column.shape[0]} values for {self.rows} rows", "a column has one value a row"
            )
        if column.dtype.hasobject and h5py.check_string_dtype(column.dtype) is None:
            raise DataError(
                f"{where} holds {kind_of(column.dtype)}", "columns are numbers, strings, or compounds of them"
            )
        return guarded

    def identity(self, samples: int) -> dict[str, str | int]:
        """Return size and time of the file (and of those it takes rows from), and a digest of rows spread over it.

        samples  number of rows, beside the first, that are digested
        Raises DataError where a file that it takes rows from is missing, or lacks what it is to hold.
        """
        others = self._others(lambda guarded: guarded.sources.check())
        digest = hashlib.sha256()
        for name, guarded in self._guarded.items():
            for row in sorted({round(i * (self.rows - 1) / max(1, samples)) for i in range(samples + 1)}):
                digest.update(_bytes(guarded.read_rows(row, row + 1), self._input_specs[name].field))
        size, modified = self._stamp
        facts: dict[str, str | int] = {"rows": self.rows, "bytes": size, "modified": modified}
        facts |= {f"{_SOURCE}{i}": describe_file(other) for i, other in enumerate(others, 1)}
        return facts | {"sampled rows": digest.hexdigest()[:32]}

    def expect(self, facts: Mapping[str, str | int]) -> None:
        """Raise DataError where the file, or one that it takes rows from, is not what `identity` gave; now or later."""
        before, now = ((int(facts["bytes"]), int(facts["modified"])), int(facts["rows"])), (stamp(self.path), self.rows)
        if before != now:
            then, since = (f"{describe_stamp(stamp)}, {rows} rows" for stamp, rows in (before, now))
            what = f"{self.path} changed since the run was prepared: {then} then, {since} now"
            raise DataError(what, "run the same command again")
        self._origins.stamps.expect(str(value) for key, value in facts.items() if key.startswith(_SOURCE))
        self._origins.stamps.require(self._others(lambda guarded: guarded.sources.named()))

    def _others(self, files: Callable[[Guarded], Iterator[Path]]) -> list[Path]:
        """Return what is asked of every dataset that is read: inputs, selection and columns."""
        datasets = [*self._guarded.values()]
        if self._spec.select is not None and self._spec.select.path is not None:
            datasets.append(self._guard(self._spec.select.path, "dataset.select"))
        datasets += [self.column(path) for path in self._spec.columns]
        return sorted({path for guarded in datasets for path in files(guarded)})

    @property
    def sources_open(self) -> int:
        """How many files stay open behind this one."""
        return sum(len(guarded.opened) for guarded in self._guarded.values())

    def sample_bytes(self) -> int:
        """Return the bytes that are decompressed to see one row of every input."""
        return sum(bytes_behind_a_row(dataset) for dataset in self._datasets.values())

    def close(self) -> None:
        self._file.close()


_SOURCE = "source "  # and a number: key of a file that rows are taken from


def _bytes(rows: Array, field: str | None) -> bytes:
    return np.ascontiguousarray(rows if field is None else rows[field]).tobytes()
