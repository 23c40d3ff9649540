"""Order: rules that look at the members' outputs by size, element by element.

What they give of probabilities need not add up to 1; it is left so, unless it is normalised (`normalization`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hpcens.rules.average import weighted_sum
from hpcens.rules.stack import Doubles, Floats, Rule


def median(stack: Sequence[Floats]) -> Doubles:
    """Return the middle one; of an even number of members the mean of the two in the middle."""
    ordered = _ordered(stack)
    below, above = ordered[(len(stack) - 1) // 2], ordered[len(stack) // 2]
    return (below.astype(np.float64) + above) / 2


def trimmed(cut: int) -> Rule:
    """Make the rule mean without the `cut` smallest and as many largest (scipy.stats.trim_mean)."""

    def combine(stack: Sequence[Floats]) -> Floats:
        kept = _ordered(stack)[cut : len(stack) - cut]
        return weighted_sum([1.0] * len(kept), kept)

    return combine


def _ordered(stack: Sequence[Floats]) -> list[Floats]:
    """Order the outputs by size, element by element.

    Members are few: exchanges of whole arrays are faster than sorts.
    """
    ordered = list(stack)
    for end in range(len(ordered) - 1, 0, -1):
        for i in range(end):
            lower, upper = ordered[i], ordered[i + 1]
            ordered[i], ordered[i + 1] = np.minimum(lower, upper), np.maximum(lower, upper)
    return ordered


def smallest(stack: Sequence[Floats]) -> Floats:
    """Return the least of the members' outputs."""
    return np.asarray(np.minimum.reduce(list(stack)))


def largest(stack: Sequence[Floats]) -> Floats:
    """Return the greatest of the members' outputs."""
    return np.asarray(np.maximum.reduce(list(stack)))
