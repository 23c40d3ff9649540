"""Calibration: what a rule gives, with its temperature put right, and sets or intervals that cover what is true.

| of | what is applied |
| --- | --- |
| classes | softmax(z / T), z = log p or the logits (Guo et al. 2017, On Calibration of Modern Neural Networks) |
| labels | sigmoid(z / T), z = log p − log(1 − p) or the logits |
| sets of classes | all c with 1 − p_c ≤ q (Sadinle et al. 2019, Least Ambiguous Set-Valued Classifiers) |
| intervals of values | from x − q to x + q (Vovk et al. 2005; Lei et al. 2018, split conformal) |

q is the ⌈(n + 1) · coverage⌉-th smallest score of n points that nothing else was fitted on: 1 − p of what is true, or
|x − y|. All in float64. A probability of 0 counts as the smallest positive number of its dtype, as under `geometric`.
"""

from __future__ import annotations

from math import ceil

import numpy as np
import numpy.typing as npt

from hpcens.rules.stack import Doubles, Floats
from hpcens.specs import Calibration


def logits_of(combined: Floats, *, logits: bool, labels: bool) -> Doubles:
    """Return logits of what a rule gave, of the same shape.

    logits  whether it holds logits, not probabilities
    labels  whether classes are labels that do not exclude one another
    """
    values = combined.astype(np.float64)
    if logits:
        return values
    known = np.finfo(combined.dtype)
    logarithm: Doubles = np.log(np.maximum(values, float(known.smallest_subnormal)))
    return logarithm - np.log(np.maximum(1 - values, float(known.eps) / 2)) if labels else logarithm


def probabilities_at(temperature: float, logits: Doubles, *, labels: bool) -> Doubles:
    """Return probabilities of logits at a temperature, over the last axis; of labels of each by itself."""
    scaled = logits / temperature
    if labels:
        return 0.5 * (1 + np.tanh(0.5 * scaled))
    shifted = np.exp(scaled - scaled.max(axis=-1, keepdims=True))
    divided: Doubles = shifted / shifted.sum(axis=-1, keepdims=True)
    return divided


def rank_of(coverage: float, count: int) -> int:
    """Return which of `count` scores, from the smallest, is the threshold; more than there are: none is."""
    return ceil(round((count + 1) * coverage, 9))


class Calibrator:
    """Apply a calibration to what a rule gives, (rows, *output shape).

    logits  whether the rule combines logits
    axis    of the classes
    """

    def __init__(self, calibration: Calibration, *, logits: bool, axis: int = -1) -> None:
        self._calibration, self._logits, self._axis = calibration, logits, axis
        self._labels = calibration.kind == "labels"

    def prediction(self, combined: Floats) -> Floats:
        """Return it calibrated, in the same space and dtype; values as they are."""
        temperature = self._calibration.temperature
        if temperature is None:
            return combined
        if self._logits:
            return np.asarray(combined.astype(np.float64) / temperature, combined.dtype)
        return np.asarray(self._probabilities(combined), combined.dtype)

    def sets(self, combined: Floats) -> npt.NDArray[np.uint8]:
        """Return 1 for each class that is in the set, else 0, in the shape of what is combined."""
        (threshold,) = self._calibration.thresholds
        return np.asarray(1 - self._probabilities(combined) <= threshold, np.uint8)

    def intervals(self, combined: Floats) -> Doubles:
        """Return the lower and the upper end of each number, (rows, *output shape, 2)."""
        half = np.asarray(self._calibration.thresholds)
        values = combined.astype(np.float64)
        widths = np.broadcast_to(half if len(half) == 1 else half.reshape(values.shape[1:]), values.shape)
        return np.stack([values - widths, values + widths], axis=-1)

    def _probabilities(self, combined: Floats) -> Doubles:
        """Return probabilities in float64, computed along a last axis so that their bits do not depend on the axis."""
        moved = np.ascontiguousarray(np.moveaxis(combined, self._axis, -1))
        logits = logits_of(moved, logits=self._logits, labels=self._labels)
        found = probabilities_at(self._calibration.temperature or 1.0, logits, labels=self._labels)
        return np.moveaxis(found, -1, self._axis)
