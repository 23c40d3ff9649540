"""Masking: rows that some member could not score, and what the result holds in their place.

A masked row is NaN in floats, −1 in labels and 0 in uint8, and `valid` is 0 there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from hpcens.errors import DataError
from hpcens.result.outputs import Output
from hpcens.specs import BadRows
from hpcens.vocabulary import Array, Bad

_TOLD = 5
_WHAT = {
    "input": "is fed NaN or infinity in",
    "output": "gave NaN or infinity for",
    "raised": "has a preprocessing that raises on",
}


def masked_rows(policy: BadRows, start: int, bad: Mapping[str, Iterable[Bad]]) -> list[int]:
    """Places within the segment of all rows that are to be masked, ascending.

    start  the segment's first row
    bad    by member
    Raises DataError naming member and rows where the policy is to fail.
    """
    if policy == "fail":
        for member, causes in bad.items():
            for cause in causes:
                raise DataError(
                    f"member {member} {_WHAT[cause.cause]} {told(start + row for row in cause.rows)}",
                    "look at these rows of the dataset; or have such rows masked and counted: bad_rows: mask",
                )
    return sorted({row for causes in bad.values() for cause in causes for row in cause.rows})


def told(rows: Iterable[int]) -> str:
    """How many rows, and the first of them, in words."""
    numbers = list(rows)
    first = ", ".join(str(row) for row in numbers[:_TOLD])
    return f"row {first}" if len(numbers) == 1 else f"{len(numbers)} rows, first {first}"


def neutral(stack: Sequence[Array], masked: Sequence[int]) -> list[Array]:
    """The stack with numbers in place of what is masked, which any rule can combine: as if no class were likelier."""
    if not len(masked):
        return list(stack)
    shares = 1.0 / stack[0].shape[-1] if stack[0].ndim > 1 else 0.0
    copies = [np.array(values) for values in stack]
    for values in copies:
        values[masked] = shares
    return copies


def mask(values: Array, output: Output, masked: Sequence[int]) -> Array:
    """Encoded values of one output with those rows blanked."""
    if not len(masked):
        return values
    blanked = np.array(values)
    blanked[masked] = {"f": np.nan, "i": -1, "u": 0}[np.dtype(output.dtype).kind]
    return blanked


def valid(rows: int, masked: Sequence[int]) -> Array:
    """(rows,) uint8: 0 where a row is masked."""
    flags = np.ones(rows, np.uint8)
    flags[masked] = 0
    return flags
