"""The temperature under which the log loss of logits is least. Pure; the same rows give the same bits."""

from __future__ import annotations

import numpy as np

from hpcens.rules import Doubles

LIMITS = (0.01, 100.0)
_DIGITS = 9
_STEP = 1 << 14  # points at a time


def best_temperature(terms: Doubles) -> float:
    """Return the temperature, within LIMITS.

    terms  (points, classes) logits, each less that of what is true

    The loss is convex in 1 / temperature: where its slope is 0 it is least.
    """
    from scipy.optimize import brentq

    def slope(inverse: float) -> float:
        return sum(_slope(inverse, terms[low : low + _STEP]) for low in range(0, len(terms), _STEP))

    least, most = 1 / LIMITS[1], 1 / LIMITS[0]
    if slope(least) >= 0:
        return LIMITS[1]
    if slope(most) <= 0:
        return LIMITS[0]
    return round(1 / float(brentq(slope, least, most, xtol=1e-13, rtol=1e-13)), _DIGITS)


def _slope(inverse: float, terms: Doubles) -> float:
    """Return by how much the loss of points grows with the inverse of the temperature."""
    scaled = inverse * terms
    shifted = np.exp(scaled - scaled.max(axis=-1, keepdims=True))
    return float((shifted / shifted.sum(axis=-1, keepdims=True) * terms).sum())
