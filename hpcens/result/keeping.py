"""Keeping: which rows of a result are kept, by the value that one of its datasets has for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from hpcens.errors import UsageError
from hpcens.result.outputs import Output
from hpcens.shell import listed
from hpcens.specs import KeepSpec, RunSpec
from hpcens.vocabulary import Array

_OF_NUMBERS = ("prediction", "members", "variance", "top_values")  # a row of which is that of a member's output
ROW_NUMBER = Output("row_number", (), "<i8", {"description": "number of the row in what was scored, from 0"})


@dataclass(frozen=True, slots=True)
class Keeping:
    """Which rows are kept.

    top    how many at most; None: all above
    above  whose value is larger; None: the largest
    name   of the dataset
    place  of the value among those of a row, flattened
    """

    top: int | None
    above: float | None
    name: str
    place: int

    def expected(self, rows: int) -> int:
        """Return about how many rows are kept, and with them wait on the disk. rows: that are scored."""
        return 0 if self.top is None else min(rows, 2 * self.top)

    def values(self, stored: Mapping[str, Array]) -> Array:
        """Return the value of each row, as it is stored; NaN where it is masked. stored: output → (rows, …)."""
        of_rows = stored[self.name]
        values = of_rows.reshape(len(of_rows), -1)[:, self.place].astype(np.float64)
        if "valid" in stored:
            values[stored["valid"] == 0] = np.nan
        return values

    def candidates(self, values: Array, first: int, best_values: Array, best_rows: Array) -> Array:
        """Return the places of rows that may be kept, ascending.

        values                  of a segment's rows, of which the first has the number `first`
        best_values, best_rows  of the rows that are to be beaten, best first
        """
        if self.top is None:
            above = -np.inf if self.above is None else self.above
            return np.flatnonzero(values > above)
        full = len(best_values) >= self.top
        places = np.flatnonzero(values >= (best_values[self.top - 1] if full else -np.inf))
        every = np.concatenate([best_values, values[places]])
        rows = np.concatenate([best_rows, first + places])
        chosen = best_first(every, rows)[: self.top]
        return np.sort(places[chosen[chosen >= len(best_values)] - len(best_values)])


def best_first(values: Array, rows: Array) -> Array:
    """Return the order of rows by value, the largest first, equal ones by row number."""
    return np.lexsort((rows, -values))


def keeping_of(spec: RunSpec, outputs: Sequence[Output]) -> Keeping | None:
    """Return which rows a result keeps; None where it keeps all.

    outputs  of the result
    Raises UsageError where it has no such dataset, or more values a row than one.
    """
    keep = spec.output.keep
    if keep is None:
        return None
    output = next((output for output in outputs if output.name == keep.dataset), None)
    if output is None or (np.dtype(output.dtype).kind != "f" and "scale" not in output.attributes):
        fitting = [o.name for o in outputs if np.dtype(o.dtype).kind == "f" or "scale" in o.attributes]
        raise UsageError(
            f"output.keep.by.dataset: {keep.dataset} is not among the numbers that the result holds",
            f"name one of {', '.join(fitting)}, or add it to output.datasets",
        )
    return Keeping(keep.top, keep.above, output.name, _place(keep, output, spec.classes or ()))


def _place(keep: KeepSpec, output: Output, classes: Sequence[str]) -> int:
    """Return which of a row's values is meant."""
    wanted = keep.by.get("class")
    count = int(np.prod(output.shape, dtype=np.int64))
    each = output.class_axis is not None or output.name.partition("/")[0] in _OF_NUMBERS
    if count > 1 and (len(output.shape) > 1 or not each):
        raise UsageError(
            f"output.keep: {output.name} has {list(output.shape)} values a row", "keep by a dataset of one a row"
        )
    if wanted is None:
        if count == 1:
            return 0
        raise UsageError(
            f"output.keep: {output.name} has {count} values a row",
            f"say which: output.keep.by: {{dataset: {output.name}, class: {classes[0] if classes else 0}}}",
        )
    place = classes.index(wanted) if wanted in classes else int(wanted) if wanted.isdecimal() else count
    if place >= count:
        there = listed(classes) if classes else f"0–{count - 1}"
        raise UsageError(f"output.keep.by.class: {wanted} is not there; {output.name} has {there}", "correct it")
    return place
