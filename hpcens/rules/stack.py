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


def label(prediction: Floats, axis: int = -1) -> Labels:
    """Return the index of the largest value along the axis of classes; a tie goes to the lowest index."""
    return np.asarray(prediction.argmax(axis=axis), np.int32)


def labels(prediction: Floats, *, logits: bool) -> Labels:
    """Return, where labels do not exclude one another, 1 for each that is likelier than not, else 0."""
    return np.asarray(prediction > (0.0 if logits else 0.5), np.int32)


def top(prediction: Floats, count: int, axis: int = -1) -> tuple[Labels, Floats]:
    """Return the `count` largest along the axis of classes, the largest first: their indices and values.

    Ties go to the lowest index first, so the first of them is the label. Values must be finite.
    """
    left = prediction.copy()
    best = []
    for _ in range(count):  # a few passes over all are faster than a sort of each
        best.append(np.expand_dims(left.argmax(axis=axis), axis))
        np.put_along_axis(left, best[-1], -np.inf, axis)
    order = np.concatenate(best, axis, dtype=np.int32)
    return order, np.take_along_axis(prediction, order, axis)
