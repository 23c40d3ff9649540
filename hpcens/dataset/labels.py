"""Labels: values that lie beside the rows of a dataset, in its files or in others, of the rows that were scored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np

from hpcens.dataset.columns import rows_of
from hpcens.dataset.file import DatasetFile
from hpcens.dataset.guard import Guarded, Origins
from hpcens.dataset.hdf5 import open_file
from hpcens.dataset.selection import Selection, Where
from hpcens.errors import DataError, FingerprintMismatch
from hpcens.shell import option
from hpcens.specs import DatasetSpec
from hpcens.vocabulary import Array


class LabelFiles:
    """One dataset of one or more files, a value a row, of which the rows are read that a result has.

    It has a value for each row of what was scored, and then follows its selection and limit; or one for each row of the
    result. Raises DataError: not to be opened, no such dataset, of another length than both; FingerprintMismatch where
    the files select other rows than were scored.

    paths   files that hold it, in the order of their rows; none: the files that were scored
    key     its name within them
    scored  files that were scored, in their order
    spec    what of them was
    data    their branch of the result's fingerprint
    """

    def __init__(
        self, paths: Sequence[Path], key: str, scored: Sequence[Path], spec: DatasetSpec, data: Mapping[str, Any]
    ) -> None:
        same = {path.resolve() for path in paths} == {path.resolve() for path in scored}
        self._paths = tuple(scored if same or not paths else paths)
        self._key, self._scored, self._spec = key, tuple(scored), spec
        self._files = [data["files"][str(number + 1)] for number in range(len(scored))]
        self.rows = int(data["rows"])
        self._opened: tuple[int, Any, Guarded] | None = None
        self._selected: tuple[int, DatasetFile, Selection] | None = None
        shapes, lengths = [], []
        for index in range(len(self._paths)):
            labels = self._labels(index)
            shapes.append((labels.row_shape, labels.dataset.dtype.kind in "OS", labels.dataset.dtype.kind == "f"))
            lengths.append(labels.rows)
        if len({*shapes}) > 1:
            raise DataError(f"labels {key} are not alike in all files", "store them alike in all files")
        self._ends = list(accumulate(lengths))
        in_all = sum(int(file["rows"]) for file in self._files)
        if self._ends[-1] not in (in_all, self.rows):
            scored_rows = f"{in_all} rows that were scored from" if in_all == self.rows else f"{in_all} of the dataset"
            more = "" if len(self._paths) == len(scored) else f"; the dataset has {len(scored)} files: name one of each"
            raise DataError(
                f"{self._paths[0]}: {key} has {self._ends[-1]} labels, and there are {scored_rows},"
                f" {self.rows} in the result",
                f"give one for each row of the dataset, or for each of the result{more}",
            )
        self.follows = self._ends[-1] == in_all
        """Whether they are those of the whole dataset, of which the selection and the limit are taken."""
        self._chosen = self._selection_ends() if self.follows and spec.select and spec.select.path else []

    @property
    def path(self) -> Path:
        """The first file that holds them."""
        return self._paths[0]

    @property
    def key(self) -> str:
        """Name of the dataset within the files."""
        return self._key

    def read(self, start: int, stop: int) -> Array:
        """Return the labels of rows of the result, (rows, …), as stored; of text bytes."""
        parts = [self._values(where) for where in self._numbers(start, stop)]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def close(self) -> None:
        """Close the files."""
        if self._opened is not None:
            self._opened[1].close()
        if self._selected is not None:
            self._selected[1].close()

    def _labels(self, index: int) -> Guarded:
        if self._opened is None or self._opened[0] != index:
            if self._opened is not None:
                self._opened[1].close()
            path = self._paths[index]
            file = open_file(path)
            origins = Origins(trusted="file_access" in self._spec.trust)
            self._opened = index, file, Guarded(file, path, self._key, option("labels"), origins, column=True)
        return self._opened[2]

    def _selection(self, index: int) -> tuple[DatasetFile, Selection]:
        if self._selected is None or self._selected[0] != index:
            if self._selected is not None:
                self._selected[1].close()
            origins = Origins(trusted="file_access" in self._spec.trust)
            file = DatasetFile(self._scored[index], self._spec, origins)
            first = sum(int(facts["rows"]) for facts in self._files[:index])
            self._selected = index, file, file.select(first)
        return self._selected[1:]

    def _selection_ends(self) -> list[int]:
        """Return up to which row of the result each file is selected, having compared what it selects."""
        counts = []
        for index, facts in enumerate(self._files):
            file, selection = self._selection(index)
            if file.rows != facts["rows"] or file.check_selection(selection) != facts["selected"]:
                raise FingerprintMismatch(
                    f"{self._scored[index]} selects other rows than were scored",
                    "bring back the file as it was, or give a label for each row of the result",
                )
            counts.append(selection.rows)
        return list(accumulate(counts))

    def _numbers(self, start: int, stop: int) -> list[Where]:
        """Return which labels are those of rows of the result."""
        if self._chosen:
            numbers: list[Where] = []
            for index, end in enumerate(self._chosen):
                before = self._chosen[index - 1] if index else 0
                low, high = max(start, before), min(stop, end)
                if low < high:
                    where = self._selection(index)[1].where(low - before, high - before)
                    first = sum(int(facts["rows"]) for facts in self._files[:index])
                    moved = (
                        slice(where.start + first, where.stop + first) if isinstance(where, slice) else where + first
                    )
                    numbers.append(moved)
            return numbers
        select = self._spec.select
        skipped = (select.start or 0) if select is not None and self.follows else 0
        return [slice(start + skipped, stop + skipped)]

    def _values(self, where: Where) -> Array:
        """Return labels by number, over all files."""
        if isinstance(where, slice):
            parts = []
            for index, end in enumerate(self._ends):
                before = self._ends[index - 1] if index else 0
                low, high = max(where.start, before), min(where.stop, end)
                if low < high:
                    parts.append(self._labels(index).read_rows(low - before, high - before))
            return parts[0] if len(parts) == 1 else np.concatenate(parts)
        of_files = np.searchsorted(self._ends, where, "right")
        values: Array | None = None
        for index in np.unique(of_files):
            chosen = np.flatnonzero(of_files == index)
            before = self._ends[index - 1] if index else 0
            part = rows_of(self._labels(int(index)), where[chosen] - before)
            if values is None:
                values = np.empty((len(where), *part.shape[1:]), part.dtype)
            values[chosen] = part
        assert values is not None, "labels are read for one row or more"
        return values
