"""What a plan expects of a cascade: which part of the rows comes to each stage, and how sure that is."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ExpectedStage:
    """A stage of a cascade.

    members    that score in it
    part       of all rows that come to it, 0 … 1; 1 where that is not known
    low, high  between which it lies, 19 times out of 20
    sampled    rows of the dataset by which it is known; 0: it is not
    """

    members: tuple[str, ...]
    part: float
    low: float
    high: float
    sampled: int
