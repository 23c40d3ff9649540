"""The stack: what rules are given, and what they are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating[Any]]
Doubles = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int32]
Rule = Callable[[Sequence[Floats]], Floats]
"""Takes the outputs of the members, in member order, each (rows, *output shape); returns one such array."""


def label(prediction: Floats) -> Labels:
    """Return the index of the largest value along the last axis; a tie goes to the lowest index."""
    return np.asarray(prediction.argmax(axis=-1), np.int32)


def top(prediction: Floats, count: int) -> tuple[Labels, Floats]:
    """Return the `count` largest along the last axis, the largest first: their indices and values.

    Ties go to the lowest index first, so the first of them is the label. Values must be finite.
    """
    left = prediction.copy()
    order = np.empty((*prediction.shape[:-1], count), np.int32)
    for place in range(count):  # a few passes over all are faster than a sort of each
        best = left.argmax(axis=-1)[..., None]
        order[..., place : place + 1] = best
        np.put_along_axis(left, best, -np.inf, -1)
    return order, np.take_along_axis(prediction, order, -1)
