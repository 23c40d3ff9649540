"""Rows that some member could not score, and what the result holds in their place.

A masked row is NaN in floats, −1 in labels and 0 in uint8, and `valid` is 0 there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from hpcens.errors import DataError
from hpcens.result import Output
from hpcens.specs import BadRows
from hpcens.vocabulary import Array, Bad, Cause

_NAMED_ROWS = 5
_FAULTS = {
    "input": "is fed NaN or infinity in",
    "output": "gave NaN or infinity for",
    "raised": "has a preprocessing that raises on",
    "cast": "is fed numbers that the dtype they are cast to cannot hold in",
}
_LOOK = "look at these rows of the dataset"
_MASK = "or have such rows masked and counted: write bad_rows: mask"
_CAST = (
    "write as the first step of preprocess what they are cast to: [{cast: int64}] for a member of integers,"
    " [{cast: float64}] with precision: float64 or before a step that scales, [{cast: float32}] to have them rounded"
)


def masked_rows(
    policy: BadRows, start: int, bad: Mapping[str, Iterable[Bad]], inputs: Mapping[str, Sequence[str]] | None = None
) -> list[int]:
    """Return the places within a segment of all rows that are to be masked, ascending.

    policy  what the job does with bad rows
    start   the segment's first row
    bad     member → rows that it could not score, by cause
    inputs  member → names of the dataset's inputs that it is fed; where it is not there, nothing is said of them
    Raises DataError naming member and rows where the policy is to fail.
    """
    if policy == "fail":
        for member, causes in bad.items():
            for cause in causes:
                raise DataError(
                    f"member {member} {_FAULTS[cause.cause]} {describe_rows(start + row for row in cause.rows)}",
                    _remedy(cause.cause, member, (inputs or {}).get(member, ())),
                )
    return sorted({row for causes in bad.values() for cause in causes for row in cause.rows})


def _remedy(cause: Cause, member: str, inputs: Sequence[str]) -> str:
    """Say what may be done about rows that a member could not score, a line each.

    inputs  that the member is fed
    """
    lines = [_CAST if cause == "cast" else _LOOK, _MASK]
    if cause == "input":
        lines.append(f"or, if this network takes NaN, write bad_rows: pass under member {member}")
        if named := [name for name in inputs if name]:
            fills = ", ".join(f"dataset.inputs.{name}.fill: 0" for name in named)
            lines.append(f"or, if NaN comes from fill values, have them replaced: {fills}")
    return "\n".join(lines)


def describe_rows(rows: Iterable[int]) -> str:
    """Say which rows there are, the first of them by number; others may follow that were not looked at yet."""
    numbers = list(rows)
    first = ", ".join(str(row) for row in numbers[:_NAMED_ROWS])
    if len(numbers) == 1:
        return f"row {first}, the first that was met"
    return f"at least {len(numbers)} rows: {first}{', …' * (len(numbers) > _NAMED_ROWS)}"


def fill_masked(stack: Sequence[Array], masked: Sequence[int], axis: int = -1) -> list[Array]:
    """Put numbers that any rule can combine in place of what is masked: as if no class were likelier.

    stack   of each member (rows, *output shape)
    masked  places of the rows
    axis    of the classes
    """
    if not len(masked):
        return list(stack)
    shares = 1.0 / stack[0].shape[axis] if stack[0].ndim > 1 else 0.0
    copies = [np.array(values) for values in stack]
    for values in copies:
        values[masked] = shares
    return copies


def mask(values: Array, output: Output, masked: Sequence[int]) -> Array:
    """Blank masked rows of one output's encoded values."""
    if not len(masked):
        return values
    blanked = np.array(values)
    blanked[masked] = {"f": np.nan, "i": -1, "u": 0}[np.dtype(output.dtype).kind]
    return blanked


def valid(rows: int, masked: Sequence[int]) -> Array:
    """Return flags (rows,) uint8: 0 where a row is masked, else 1."""
    flags = np.ones(rows, np.uint8)
    flags[list(masked)] = 0
    return flags
