"""Routes: which rows of a dataset each member scores, by values that lie beside the rows."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import h5py
import numpy as np

from hpcens.dataset.columns import rows_of
from hpcens.dataset.file import DatasetFile
from hpcens.dataset.guard import Guarded
from hpcens.dataset.hdf5 import kind_of
from hpcens.dataset.routed import Routed
from hpcens.dataset.source import Source
from hpcens.dataset.types import dtype_of
from hpcens.errors import DataError
from hpcens.specs import NOT_OF, RowsSpec, described_rows
from hpcens.vocabulary import Array, Divided, Rows

_BLOCK = 1 << 20  # rows looked at together; a multiple of 8
_MOST_SETS = 64
_SHOWN = 8
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
        self._paths: dict[str, str] = {}  # the key in `rows` → what it names in each file
        for rows in members.values():
            for key, values in (rows or {}).items():
                self._paths[_place(key, values)] = str(values[0]) if key == "path" else route[key.removeprefix(NOT_OF)]
        for file in source.files():
            for key, path in self._paths.items():
                self._column(file, key, path)

    def present(self, start: int, stop: int) -> Array:
        """Return (rows, members) bool: whether the member scores each of the selected rows from `start` to `stop`."""
        columns = {key: self._values(key, start, stop) for key in self._paths}
        present = np.ones((stop - start, len(self._names)), bool)
        for member, rows in enumerate(self._members.values()):
            for key, values in (rows or {}).items():
                present[:, member] &= columns[_place(key, values)](values) != key.startswith(NOT_OF)
        return present

    def divide(self, start: int, stop: int, members: Sequence[str]) -> Divided:
        """Read the selected rows from `start` to `stop`, divided among these members; none that no one scores."""
        present = self.present(start, stop)
        wanted = {member: present[:, self._names.index(member)] for member in members}
        wanted = {member: marks for member, marks in wanted.items() if marks.any()}
        rows = self._source.rows_between(start, stop) if wanted else ()
        alike: dict[bytes, Rows] = {}
        for marks in wanted.values():
            if (key := marks.tobytes()) not in alike:
                alike[key] = rows if marks.all() else tuple(array[marks] for array in rows)
        return Divided({m: alike[marks.tobytes()] for m, marks in wanted.items()}, np.packbits(present, axis=1))

    def facts(self, *, all_rows: bool = True) -> Routed:
        """Look at all rows. all_rows: whether they are all of the dataset, of which each member is to score some.

        Raises DataError where a member then scores none.
        """
        counts = np.zeros(len(self._names), np.int64)
        digests = [hashlib.sha256() for _ in self._names]
        sets: dict[bytes, None] = {}
        unscored, first = 0, list[int]()
        for start in range(0, self._source.rows, _BLOCK):
            present = self.present(start, min(start + _BLOCK, self._source.rows))
            counts += present.sum(0)
            for place, digest in enumerate(digests):
                digest.update(np.packbits(present[:, place]).tobytes())
            if len(sets) < _MOST_SETS:
                sets |= {row.tobytes(): None for row in np.unique(present, axis=0)}
            nobody = np.flatnonzero(~present.any(1))
            unscored += len(nobody)
            first += (nobody[: _SHOWN - len(first)] + start).tolist()
        chosen = [(place, name) for place, name in enumerate(self._names) if self._members[name] is not None]
        for place, name in chosen:
            if not counts[place] and all_rows:
                raise self._scores_none(name)
        marks = [np.frombuffer(row, bool) for row in [*sets][:_MOST_SETS]]
        return Routed(
            rows={name: int(counts[place]) for place, name in chosen},
            digests={name: digests[place].hexdigest()[:32] for place, name in chosen},
            sets=tuple(
                tuple(n for n, there in zip(self._names, row, strict=True) if there) for row in marks if any(row)
            ),
            unscored=unscored,
            first=tuple(first),
        )

    def _scores_none(self, member: str) -> DataError:
        rows = self._members[member]
        assert rows is not None, "a member without `rows` scores all"
        held = []
        for key, values in rows.items():
            path = self._paths[_place(key, values)]
            some = np.unique(_plain(self._read(path, 0, min(_BLOCK, self._source.rows))))
            text = ", ".join(map(str, some[:_SHOWN].tolist())) + (", …" if len(some) > _SHOWN else "")
            held.append(f"{path} holds {text}")
        return DataError(
            f"member {member} scores none of the {self._source.rows} rows, its rows being {described_rows(rows)}:"
            f" {'; '.join(held)}",
            "correct members[].rows, or dataset.route",
        )

    def _values(self, key: str, start: int, stop: int) -> Callable[[Sequence[int | str]], Array]:
        """Read a column; return what tells which rows have one of some values."""
        values = self._read(self._paths[key], start, stop)
        if key.startswith("path "):
            if values.dtype.kind != "b" and values.size and not 0 <= values.min() <= values.max() <= 1:
                raise DataError(f"{self._paths[key]} holds {values.max()} and is to mark rows", _MASK)
            return lambda wanted: values != 0
        plain = _plain(values)
        return lambda wanted: np.isin(plain, np.asarray(wanted, plain.dtype if plain.dtype.kind == "O" else None))

    def _read(self, path: str, start: int, stop: int) -> Array:
        parts = []
        for file, where, _ in self._source.places(start, stop):
            column = file.column(path, "dataset.route")
            values, names = rows_of(column, where), h5py.check_enum_dtype(column.dataset.dtype)
            if names and values.dtype.kind != "b":
                words = {number: name for name, number in names.items()}
                values = np.array([words.get(number, str(number)) for number in values.tolist()], object)
            parts.append(values)
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _column(self, file: DatasetFile, key: str, path: str) -> None:
        """Look at a column before it is read. Raises DataError where it is none, or holds what no value can be."""
        column = file.column(path, "members[].rows.path" if key.startswith("path ") else "dataset.route")
        dtype, where = column.dataset.dtype, f"{file.path}: {column.dataset.name}"
        text = h5py.check_string_dtype(dtype) is not None or _is_enumeration(column)
        if column.row_shape or not (text or dtype_of(column.dataset).kind in "biu"):
            raise DataError(
                f"{where} is {kind_of(dtype_of(column.dataset))}{list(column.dataset.shape)}, and routes rows",
                "it is to have one value a row: whole numbers, booleans or text",
            )
        if key.startswith("path "):
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


def _place(key: str, values: Sequence[Any]) -> str:
    """Name a column by what `rows` says of it: a route, or a mask by its path."""
    return f"path {values[0]}" if key == "path" else key.removeprefix(NOT_OF)


def _is_enumeration(column: Guarded) -> bool:
    return bool(h5py.check_enum_dtype(column.dataset.dtype)) and dtype_of(column.dataset).kind != "b"


def _plain(values: Array) -> Array:
    """Return numbers as they are, text as str."""
    if values.dtype.kind not in "OS":
        return values.astype(np.int64) if values.dtype.kind == "b" else values
    words = values.tolist()
    return np.array([w.decode(errors="backslashreplace") if isinstance(w, bytes) else str(w) for w in words], object)
