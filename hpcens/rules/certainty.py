"""Certainty: how sure members are of a row, by what a cascade accepts it by. All in float64.

| word | what it is | where classes do not exclude one another |
| --- | --- | --- |
| max_probability | the largest of the prediction's probabilities | of each label max(p, 1 − p) |
| margin | the largest of them less the second | of each label its distance from 1 − p |
| entropy, expected_entropy, mutual_information | see `uncertainty` | of each label |
| disagreement | share of the members whose label is not the ensemble's | – |
| variance | of each of a member's values over the members | of each label |

What tells how far members are apart is NaN where there is one alone: it is sure of nothing by that. The mutual
information of one that is run in passes is how far these are apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from hpcens.rules.stack import Doubles, Floats, label
from hpcens.rules.uncertainty import disagreement, entropies, variance
from hpcens.specs import ACCEPTED, OF_SPREAD, LimitSpec
from hpcens.vocabulary import Array


def certainty(
    name: str,
    stack: Sequence[Floats],
    prediction: Floats,
    weights: Sequence[float],
    *,
    logits: bool,
    axis: int,
    multilabel: bool,
    of_passes: Mapping[int, Floats] | None = None,
) -> Doubles:
    """Return one measure of it, (rows, …).

    name        one of `ACCEPTED`
    stack       of each member (rows, *output shape), in the space the rule combines in
    prediction  (rows, *output shape): what the rule makes of them
    weights     what each member counts
    logits      whether that space is logits
    axis        of the classes
    multilabel  whether they do not exclude one another
    of_passes   place of a member → mean entropy of its passes, (rows, …); of those that are run in passes
    """
    if name in OF_SPREAD and len(stack) == 1 and not (name == "mutual_information" and of_passes):
        return np.full(stack[0].shape, np.nan)
    if name == "variance":
        return variance(stack)
    if name == "disagreement":
        return disagreement(stack, label(prediction, axis), axis)
    if name in ("max_probability", "margin"):
        found = _probabilities(prediction, logits=logits, axis=None if multilabel else axis)
        if multilabel:
            return np.maximum(found, 1 - found) if name == "max_probability" else np.abs(2 * found - 1)
        best = np.sort(found, axis=axis)
        first: Doubles = np.take(best, -1, axis=axis)
        second: Doubles = np.take(best, -2, axis=axis)
        return first if name == "max_probability" else first - second
    split = entropies(stack, weights, logits=logits, axis=None if multilabel else axis, of_passes=of_passes)
    if name == "mutual_information":
        return split.mutual_information
    return split.predictive if name == "entropy" else split.expected


def least_sure(name: str, values: Array) -> Doubles:
    """Return of each row the measure where it is least sure, (rows,); NaN where one is. values: (rows, …)."""
    flat = np.asarray(values, np.float64).reshape(len(values), -1)
    return np.asarray(flat.max(axis=1) if ACCEPTED[name] == "below" else flat.min(axis=1))


def accepted(measures: Mapping[str, Doubles], limits: Mapping[str, LimitSpec]) -> Array:
    """Return (rows,) bool: whether all measures of a row are within their limits; NaN is not.

    measures  word → (rows,), see `least_sure`
    limits    word → its limit
    """
    sure: Array = np.logical_and.reduce([_within(name, measures[name], limit) for name, limit in limits.items()])
    return sure


def _within(name: str, values: Doubles, limit: LimitSpec) -> Array:
    marks: Array = values < limit.value if ACCEPTED[name] == "below" else values > limit.value
    return marks


def _probabilities(prediction: Floats, *, logits: bool, axis: int | None) -> Doubles:
    values = prediction.astype(np.float64)
    if not logits:
        return values
    if axis is None:
        return 0.5 * (1 + np.tanh(0.5 * values))
    shifted = np.exp(values - values.max(axis=axis, keepdims=True))
    shares: Doubles = shifted / shifted.sum(axis=axis, keepdims=True)
    return shares
