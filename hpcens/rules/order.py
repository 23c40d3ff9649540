"""Order: rules that look at the members' outputs by size, element by element.

What they give of probabilities need not add up to 1; it is left so.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hpcens.rules.stack import Floats, Rule


def median(stack: Sequence[Floats]) -> Floats:
    """The middle one; of an even number of members the mean of the two in the middle."""
    ordered = np.sort(np.stack(stack), axis=0)
    below, above = ordered[(len(stack) - 1) // 2], ordered[len(stack) // 2]
    return np.asarray((below.astype(np.float64) + above) / 2, np.float32)


def trimmed(cut: int) -> Rule:
    """The mean without the `cut` smallest and as many largest (scipy.stats.trim_mean)."""

    def combine(stack: Sequence[Floats]) -> Floats:
        kept = np.sort(np.stack(stack), axis=0)[cut : len(stack) - cut]
        return np.asarray(kept.mean(axis=0, dtype=np.float64), np.float32)

    return combine


def smallest(stack: Sequence[Floats]) -> Floats:
    return np.asarray(np.minimum.reduce(list(stack)), np.float32)


def largest(stack: Sequence[Floats]) -> Floats:
    return np.asarray(np.maximum.reduce(list(stack)), np.float32)
