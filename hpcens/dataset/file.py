"""One file of the dataset, opened read only; it is neither locked nor touched."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from hpcens.dataset.forms import open_input, require_alike
from hpcens.dataset.guard import Guarded, Origins
from hpcens.dataset.hdf5 import holds_marks, kind_of, only_dataset, open_file
from hpcens.dataset.inputs import OpenInput, Table, Target
from hpcens.dataset.plain import Plain
from hpcens.dataset.selection import Listed, Marked, Selection, Span, Where
from hpcens.dataset.stamps import SETTLE, describe_file, describe_stamp, stamp
from hpcens.dataset.table import Chunked
from hpcens.dataset.threads import Threads
from hpcens.dataset.types import are_pixels, dtype_of, untyped_fields, without_type
from hpcens.errors import DataError
from hpcens.specs import DatasetSpec, InputSpec
from hpcens.vocabulary import Array

_BLOCK = 1 << 20
_MOST_SAMPLED = 8 << 30  # bytes behind a row that are decompressed to see it, in half a minute or so
_SAMPLED_CHUNKS = 16


@dataclass(frozen=True, slots=True)
class Look:
    """What a look at a file gave.

    identity  size and time of the file, and of those it takes rows from; a digest of rows spread over it
    sampled   number of those rows
    filled    input → in how many of them it holds a fill value, which is NaN in memory
    pixels    inputs that look like images whose values are not scaled
    remarks   what is to be said of its inputs
    """

    identity: dict[str, str | int]
    sampled: int
    filled: dict[str, int]
    pixels: frozenset[str]
    remarks: tuple[str, ...]


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
        self._inputs = self._find()
        if any(guarded.dataset.is_virtual for each in self._inputs for guarded in each.guards):
            self._inputs = ()
            self._file.close()
            self._file = open_file(path, virtual=True)
            self._inputs = self._find()
        self.inputs = tuple(each.facts for each in self._inputs)
        require_alike(path, self._inputs)
        self.rows = self._inputs[0].rows
        if origins.rows not in (None, self.rows):  # a block of a virtual dataset is gone
            raise DataError(f"{path} had {origins.rows} rows before, and has {self.rows} now", SETTLE)
        origins.rows = self.rows
        self._tables: dict[Hashable, Table] = {}

    def _find(self) -> tuple[OpenInput, ...]:
        inputs: list[OpenInput] = []
        for name, wanted in self._input_specs.items():
            place = f"dataset.inputs.{name}" if name in self._spec.inputs else "dataset.input"
            inputs.append(open_input(self._file, self.path, name, wanted, place, self._origins))
        return tuple(inputs)

    def _guard(self, path: str, place: str) -> Guarded:
        return Guarded(self._file, self.path, path, place, self._origins, column=True)

    def select(self, first: int) -> Selection:
        """Return what is selected of this file.

        first  number of its first row in the whole dataset, in which a range counts
        """
        select = self._spec.select
        if select is None or select.path is None:
            start, stop = (select.start or 0, select.stop) if select else (0, None)
            low = min(self.rows, max(0, start - first))
            return Span(low, self.rows if stop is None else max(low, min(self.rows, stop - first)))
        guarded = self._guard(select.path, "dataset.select")
        chosen, rows = guarded.dataset, guarded.rows
        where = f"{self.path}: {chosen.name}"
        if guarded.row_shape or dtype_of(chosen).kind not in "biu":
            raise DataError(
                f"{where} is {kind_of(dtype_of(chosen))}{list(chosen.shape)} and selects nothing",
                "dataset.select names a mask (booleans, one a row) or row numbers (integers), of one dimension",
            )

        def read(start: int, stop: int) -> Array:
            return self._guard(str(select.path), "dataset.select").read_rows(start, stop)

        if holds_marks(chosen):
            if rows != self.rows:
                raise DataError(
                    f"{where} has {rows} marks for {self.rows} rows", f"a mask has one mark a row{self._hint(rows)}"
                )
            return Marked(read, rows)
        return Listed(read, rows)

    def _hint(self, rows: int) -> str:
        """Say what takes so many rows, as the rest of a sentence; empty where nothing does."""
        return next((f"; {hint}" for each in self._inputs if (hint := each.other_axis(rows))), "")

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

    def open_tables(self, threads: Threads, end: int, budget: int) -> None:
        """Prepare for `read`, before which this has to be called once.

        threads  that read
        end      no row from here on will be asked for
        budget   bytes of memory for chunks that are kept
        """
        for each in self._inputs:
            if each.place not in self._tables:
                self._tables[each.place] = each.open_table(threads, end, budget)

    def read(self, where: Where, outs: Sequence[Array]) -> None:
        """Read rows into arrays: (rows, *row shape) of each input, in their order."""
        raws: list[Array] = []
        reads: dict[tuple[Hashable, str | None], Array] = {}
        for each, out in zip(self._inputs, outs, strict=True):
            raw = each.raw(out)
            if raw is not out:  # what several inputs take their rows from is read once
                raw = reads.setdefault((each.place, each.field), raw)
            raws.append(raw)
        places: dict[Hashable, OpenInput] = {}
        targets: dict[Hashable, dict[int, Target]] = {}
        for each, raw in zip(self._inputs, raws, strict=True):
            places.setdefault(each.place, each)
            targets.setdefault(each.place, {})[id(raw)] = (each.field, raw)
        for place, each in places.items():
            with each.reading(where):
                self._tables[place].read(where, list(targets[place].values()))
        for each, raw, out in zip(self._inputs, raws, outs, strict=True):
            each.unpack(raw, out, where)

    @property
    def tall(self) -> int:
        """Rows of the tallest chunk, 1 where nothing is chunked."""
        return max(each.tall for each in self._inputs)

    @property
    def descriptions(self) -> dict[str, str]:
        """What each input is, as text."""
        return {each.facts.name: each.described(self._spec.input_specs.get(each.facts.name)) for each in self._inputs}

    def column(self, path: str, place: str = "dataset.columns") -> Guarded:
        """Return a column, one value (of any shape) a row. place: key in the YAML that names it."""
        guarded = self._guard(path, place)
        column = guarded.dataset
        where = f"{self.path}: {column.name}"
        if guarded.rows != self.rows:
            raise DataError(
                f"{where} has {guarded.rows} values for {self.rows} rows",
                f"a column has one value a row{self._hint(guarded.rows)}",
            )
        for field, words in untyped_fields(column).items():
            raise without_type(f"{where}, field {field},", words)
        if dtype_of(column).hasobject and h5py.check_string_dtype(column.dtype) is None:
            raise DataError(
                f"{where} holds {kind_of(column.dtype)}", "columns are numbers, strings, or compounds of them"
            )
        return guarded

    def look(self, samples: int, selection: Selection) -> Look:
        """Look at the file, at those that it takes rows from, and at rows spread over it.

        samples    number of rows, beside the first
        selection  what is selected of it
        Raises DataError where a file that it takes rows from is missing, or lacks what it is to hold.
        """
        others = self._others(lambda guarded: guarded.sources.check())
        digest = hashlib.sha256()
        rows = sorted({round(i * (self.rows - 1) / max(1, samples)) for i in range(samples + 1)})
        filled, pixels = {}, set()
        for each in self._inputs:
            if each.layout is not None and each.layout.band_bytes > _MOST_SAMPLED:
                digest.update(each.stored_chunks(_SAMPLED_CHUNKS))
                filled[each.facts.name] = 0
            else:
                stored = self._sample(each, rows)
                digest.update(each.content(stored))
                filled[each.facts.name] = sum(map(each.is_filled, stored))
                if not each.unpacking and are_pixels(stored):
                    pixels.add(each.facts.name)
        size, modified = self._stamp
        facts: dict[str, str | int] = {"rows": self.rows, "bytes": size, "modified": modified}
        facts |= {f"{_SOURCE}{i}": describe_file(other) for i, other in enumerate(others, 1)}
        facts |= {f"decode {each.facts.name}": each.unpacking for each in self._inputs if each.unpacking}
        remarks = tuple(
            remark
            for each in self._inputs
            for remark in (*each.remarks, *each.packed_behind(), *each.examine(selection))
        )
        laid = {each.where: each.layout for each in self._inputs if each.layout and each.layout.lies_along_rows}
        remarks += tuple(f"reading {where}: {layout.described(where)}" for where, layout in laid.items())
        return Look(facts | {"sampled rows": digest.hexdigest()[:32]}, len(rows), filled, frozenset(pixels), remarks)

    def _sample(self, each: OpenInput, rows: Sequence[int]) -> Array:
        """Read rows as they are stored, in their byte order; each chunk is decompressed once for all of them."""
        where, stored = np.array(rows), each.as_stored(len(rows))
        with each.reading(where):
            self._tables[each.place].read(where, [(each.field, stored)])
        return stored

    def find_chunks(self) -> None:
        """Find now where chunks lie, which the first reading would do."""
        for table in self._tables.values():
            if isinstance(table, Plain | Chunked):
                table.find_chunks()

    @property
    def tables(self) -> list[Chunked]:
        """Those that are compressed."""
        return [table for table in self._tables.values() if isinstance(table, Chunked)]

    def expect(self, facts: Mapping[str, str | int]) -> None:
        """Raise DataError where the file, or one that it takes rows from, is not what `look` saw; now or later."""
        before = (int(facts["bytes"]), int(facts["modified"])), int(facts["rows"])
        now = stamp(self.path), self.rows
        if before != now:
            then, since = (f"{describe_stamp(stamp)}, {rows} rows" for stamp, rows in (before, now))
            what = f"{self.path} changed since the run was prepared: {then} then, {since} now"
            raise DataError(what, "run the same command again")
        self._origins.stamps.expect(str(value) for key, value in facts.items() if key.startswith(_SOURCE))
        self._origins.stamps.require(self._others(lambda guarded: guarded.sources.named()))

    def _others(self, files: Callable[[Guarded], Iterator[Path]]) -> list[Path]:
        """Return what is asked of every dataset that is read: inputs, selection and columns."""
        datasets = [guarded for each in self._inputs for guarded in each.guards]
        if self._spec.select is not None and self._spec.select.path is not None:
            datasets.append(self._guard(self._spec.select.path, "dataset.select"))
        datasets += [self.column(path) for path in self._spec.columns]
        datasets += [self.column(path, "dataset.route") for path in self._spec.route.values()]
        return sorted({path for guarded in datasets for path in files(guarded)})

    @property
    def sources_open(self) -> int:
        """How many files stay open behind this one."""
        return sum(len(guarded.opened) for each in self._inputs for guarded in each.guards)

    def sample_bytes(self) -> int:
        """Return the bytes that are decompressed to see one row of every input."""
        return sum(each.behind_a_row for each in self._inputs)

    def close(self) -> None:
        """Close the HDF5 file; what was read from it stays valid."""
        self._file.close()


_SOURCE = "source "  # and a number: key of a file that rows are taken from
