"""Averages: arithmetic and geometric means over the members, accumulated in member order."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hpcens.rules.stack import Doubles, Floats, Rule


def weighted_sum(weights: Sequence[float], stack: Sequence[Floats]) -> Doubles:
    """Return Σ w·x / Σ w in float64. stack: (rows, *output shape) of each member, in member order."""
    accumulated = np.zeros(stack[0].shape, np.float64)
    for weight, values in zip(weights, stack, strict=True):
        accumulated += values if weight == 1.0 else weight * values.astype(np.float64)
    accumulated /= sum(weights)
    return accumulated


def weighted(weights: Sequence[float]) -> Rule:
    """Make the rule Σ w·x / Σ w; the mean where the weights are equal."""

    def combine(stack: Sequence[Floats]) -> Floats:
        return weighted_sum(weights, stack)

    return combine


def geometric(stack: Sequence[Floats], axis: int = -1) -> Doubles:
    """Return exp(Σ log p / members), normalised over the axis of classes: the logarithmic opinion pool.

    Genest & Zidek 1986, Combining Probability Distributions. A probability of 0 counts as the smallest
    positive number of its dtype, for softmax underflows to it: a class that all members but one favour stays
    comparable.
    """
    logarithm = np.zeros(stack[0].shape, np.float64)
    for values in stack:
        smallest = np.float64(np.finfo(values.dtype).smallest_subnormal)
        logarithm += np.log(np.maximum(values, smallest, dtype=np.float64))
    logarithm /= len(stack)
    logarithm -= logarithm.max(axis=axis, keepdims=True)
    pooled = np.exp(logarithm)
    pooled /= pooled.sum(axis=axis, keepdims=True)
    return pooled
