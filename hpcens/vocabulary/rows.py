"""Rows as they travel: of all inputs, divided among members, and those that are bad."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]
else:
    Array = Any  # planning, and finding devices, need no numpy
Rows = tuple[Array, ...]
"""Rows of the dataset: one array for each of its inputs, in their order, all of one length."""

Cause = Literal["input", "output", "raised", "cast"]


@dataclass(frozen=True, slots=True)
class Bad:
    """Rows of a segment that a member could not score: places within the segment, ascending.

    cause  input: NaN or infinity in what it is fed; output: in what it gave; raised: its preprocessing did; cast: the
           dtype that the rows are cast to cannot hold their numbers
    """

    cause: Cause
    rows: tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Divided:
    """A segment's rows, divided among members that do not score all of them.

    rows     member → what it scores, for each input (its rows, *row shape); members that score the same share one
             object, those that score none are absent
    present  bits, packed along the second axis: (rows of the segment, members of the ensemble) uint8, set where the
             member is to score the row
    """

    rows: Mapping[str, Rows]
    present: Array
