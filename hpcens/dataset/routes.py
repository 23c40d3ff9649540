"""Routes: which rows of a dataset each member scores, by values that lie beside the rows."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import h5py
import numpy as np

from hpcens.dataset.columns import rows_of
from hpcens.dataset.file import DatasetFile
from hpcens.dataset.hdf5 import kind_of
from hpcens.dataset.routed import Routed
from hpcens.dataset.source import Source
from hpcens.dataset.types import dtype_of
from hpcens.errors import DataError
from hpcens.shell import listed
from hpcens.specs import NOT_OF, RowsSpec, described_rows
from hpcens.vocabulary import Array, Divided, Rows

_BLOCK = 1 << 20  # rows looked at together; a multiple of 8
_MOST_SETS = 64
_SHOWN = 8
_MASK_OF = "path "
_MASK = "a mask has booleans, or 0 and 1, one a row"


class Routes:
    """Who scores which rows of a dataset.

    source   its rows
    members  member → its `rows`; None: it scores all
    Raises DataError where what they name is not there, or is no value a row.
    """

    def __init__(self, source: Source, route: Mapping[str, str], members: Mapping[str, RowsSpec | None]) -> None:
        self._source = source
        self._names = tuple(members)
        self._members = members
        self._numbers: dict[str, Mapping[Any, int]] = {}  # path of an enumeration → name → number
        self._paths: dict[str, str] = {}  # the key in `rows` → what it names in each file
        for rows in members.values():
            for key, values in (rows or {}).items():
                self._paths[_place(key, values)] = str(values[0]) if key == "path" else route[key.removeprefix(NOT_OF)]
        for file in source.files():
            for key, path in self._paths.items():
                self._column(file, key, path)

    def present(self, start: int, stop: int) -> Array:
        """Return (rows, members) bool: whether the member scores each of the selected rows from `start` to `stop`."""
        return np.stack(self._marks(start, stop), axis=1)

    def _marks(self, start: int, stop: int) -> list[Array]:
        """Return for each member (rows,) bool: whether it scores each of the selected rows."""
        columns = {key: self._read(path, start, stop) for key, path in self._paths.items()}
        marks = []
        for rows in self._members.values():
            scored = np.ones(stop - start, bool)
            for key, wanted in (rows or {}).items():
                place = _place(key, wanted)
                scored &= self._having(place, columns[place], wanted) != key.startswith(NOT_OF)
            marks.append(scored)
        return marks

    def divide(self, start: int, stop: int, members: Sequence[str], memory: Array | None = None) -> Divided:
        """Read the selected rows from `start` to `stop`, divided among these members; none that no one scores."""
        return divided_rows(self._source, start, stop, self.present(start, stop), self._names, members, memory)

    def facts(self, *, all_rows: bool = True) -> Routed:
        """Look at all rows. all_rows: whether they are all of the dataset, of which each member is to score some.

        Raises DataError where a member then scores none.
        """
        counts = np.zeros(len(self._names), np.int64)
        digests = [hashlib.sha256() for _ in self._names]
        sets: dict[tuple[bool, ...], None] = {}
        unscored, first = 0, list[int]()
        for start in range(0, self._source.rows, _BLOCK):
            marks = self._marks(start, min(start + _BLOCK, self._source.rows))
            counts += [np.count_nonzero(each) for each in marks]
            for digest, each in zip(digests, marks, strict=True):
                digest.update(np.packbits(each).tobytes())
            if len(sets) < _MOST_SETS:
                sets |= dict.fromkeys(_different(marks))
            nobody = np.flatnonzero(~np.logical_or.reduce(marks))
            unscored += len(nobody)
            first += (nobody[: _SHOWN - len(first)] + start).tolist()
        chosen = [(place, name) for place, name in enumerate(self._names) if self._members[name] is not None]
        for place, name in chosen:
            if not counts[place] and all_rows:
                raise self._scores_none(name)
        there = [[n for n, some in zip(self._names, row, strict=True) if some] for row in [*sets][:_MOST_SETS]]
        return Routed(
            rows={name: int(counts[place]) for place, name in chosen},
            digests={name: digests[place].hexdigest()[:32] for place, name in chosen},
            sets=tuple(tuple(names) for names in there if names),
            unscored=unscored,
            first=tuple(first),
        )

    def _scores_none(self, member: str) -> DataError:
        rows = self._members[member]
        assert rows is not None, "a member without `rows` scores all"
        held = []
        for key, values in rows.items():
            path = self._paths[_place(key, values)]
            some = sorted({*self._read(path, 0, min(_BLOCK, self._source.rows)).tolist()})
            held.append(f"{path} holds {listed([self._word(path, value) for value in some], _SHOWN)}")
        return DataError(
            f"member {member} scores none of the {self._source.rows} rows, its rows being {described_rows(rows)}:"
            f" {'; '.join(held)}",
            "correct members[].rows, or dataset.route",
        )

    def _having(self, place: str, values: Array, wanted: Sequence[int | str]) -> Array:
        """Return (rows,) bool: whether the value of a column is one of those wanted, or marks the row."""
        path = self._paths[place]
        if place.startswith(_MASK_OF):
            if values.dtype.kind != "b" and values.size and not 0 <= values.min() <= values.max() <= 1:
                raise DataError(f"{path} holds {values.max()} and is to mark rows", _MASK)
            return np.asarray(values != 0)
        having = np.zeros(len(values), bool)
        for value in wanted:
            stored = self._numbers[path].get(value, -1) if path in self._numbers else value
            having |= values == (stored.encode() if isinstance(stored, str) else stored)
        return having

    def _word(self, path: str, value: object) -> str:
        """Write a stored value as a user would."""
        if isinstance(value, bytes):
            return value.decode(errors="backslashreplace")
        names = (name for name, number in self._numbers.get(path, {}).items() if number == value)
        return next(names, str(value))

    def _read(self, path: str, start: int, stop: int) -> Array:
        pieces = self._source.places(start, stop)
        parts = [rows_of(file.column(path, "dataset.route"), where) for file, where, _ in pieces]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _column(self, file: DatasetFile, key: str, path: str) -> None:
        """Look at a column before it is read. Raises DataError where it is none, or holds what no value can be."""
        column = file.column(path, "members[].rows.path" if key.startswith(_MASK_OF) else "dataset.route")
        dtype, where = column.dataset.dtype, f"{file.path}: {column.dataset.name}"
        names = h5py.check_enum_dtype(dtype) if dtype_of(column.dataset).kind != "b" else None
        if names and self._numbers.setdefault(path, names) != names:
            raise DataError(f"{where} has other names than in the files before", "store them alike in all files")
        text = h5py.check_string_dtype(dtype) is not None or bool(names)
        if column.row_shape or not (text or dtype_of(column.dataset).kind in "biu"):
            raise DataError(
                f"{where} is {kind_of(dtype_of(column.dataset))}{list(column.dataset.shape)}, and routes rows",
                "it is to have one value a row: whole numbers, booleans or text",
            )
        if key.startswith(_MASK_OF):
            if text:
                raise DataError(f"{where} holds text and is to mark rows", _MASK)
            return
        for member, rows in self._members.items():
            for name, values in (rows or {}).items():
                strange = [value for value in values if isinstance(value, str) != text]
                if _place(name, values) == key and strange:
                    holds = "text" if text else kind_of(dtype_of(column.dataset))
                    raise DataError(
                        f"{where} holds {holds}, and rows of member {member} names {strange[0]!r}",
                        f"correct rows: {key}" + (", numbers that are text in quotes" if text else ""),
                    )


def divided_rows(
    source: Source,
    start: int,
    stop: int,
    present: Array,
    names: Sequence[str],
    members: Sequence[str],
    memory: Array | None = None,
) -> Divided:
    """Read the selected rows from `start` to `stop`, divided among these members; none that no one scores.

    present  (rows, members) bool: whether the member is to score the row
    names    of all members, in the order of that
    memory   see `Source.rows_between`
    """
    wanted = {member: present[:, names.index(member)] for member in members}
    wanted = {member: marks for member, marks in wanted.items() if marks.any()}
    rows = source.rows_between(start, stop, memory) if wanted else ()
    alike: dict[bytes, Rows] = {}
    for marks in wanted.values():
        if (key := marks.tobytes()) not in alike:
            alike[key] = rows if marks.all() else tuple(array[marks] for array in rows)
    return Divided({m: alike[marks.tobytes()] for m, marks in wanted.items()}, np.packbits(present, axis=1))


def _place(key: str, values: Sequence[Any]) -> str:
    """Name a column by what `rows` says of it: a route, or a mask by its path."""
    return f"{_MASK_OF}{values[0]}" if key == "path" else key.removeprefix(NOT_OF)


def _different(marks: Sequence[Array]) -> list[tuple[bool, ...]]:
    """Return the rows of marks that differ from one another, each as one mark a member."""
    if len(marks) > 63:
        return [tuple(row) for row in np.unique(np.stack(marks, axis=1), axis=0).tolist()]
    codes = np.zeros(len(marks[0]), np.int64)
    for bit, each in enumerate(marks):
        codes |= each.astype(np.int64) << bit
    distinct = np.flatnonzero(np.bincount(codes)) if len(marks) <= 16 else np.unique(codes)
    return [tuple(bool(code >> bit & 1) for bit in range(len(marks))) for code in distinct.tolist()]
