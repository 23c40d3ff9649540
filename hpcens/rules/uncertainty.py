"""Uncertainty: how far the members agree, from one segment's stack. All in float64; logarithms are natural (nats).

With p_m the members' probabilities and w_m their normalised weights (equal but under the rule weighted):

| output | formula | meaning |
| --- | --- | --- |
| variance | Σ_m (x_m − x̄)² / M | spread of the members' outputs, element by element |
| entropy | H[p̄], p̄ = Σ w_m p_m | total uncertainty |
| expected_entropy | Σ w_m H[p_m] | uncertainty in the data, as the members see it |
| mutual_information | H[p̄] − Σ w_m H[p_m] | uncertainty of the model: the members' disagreement in full |
| disagreement | share of the members whose label is not the ensemble's | |

Of a member that is run in passes t, p_m is the mean of its p_mt, and H[p_m] in the sums is the mean of H[p_mt]: its
passes count as members do.

Where labels do not exclude one another, entropies are those of each label by itself: H[p] = −p log p − (1−p) log(1−p).

Sources: Lakshminarayanan, Pritzel & Blundell 2017, Simple and Scalable Predictive Uncertainty Estimation using
Deep Ensembles (p̄ and the variance of a uniform mixture); Depeweg et al. 2018, Decomposition of Uncertainty in
Bayesian Deep Learning (the split of the entropy); Houlsby et al. 2011, Bayesian Active Learning for Classification
and Preference Learning (the mutual information).
The split is that of the mixture p̄ whatever the rule is, so that its parts always add up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from hpcens.rules.stack import Doubles, Floats, Labels


def variance(stack: Sequence[Floats]) -> Doubles:
    """Return the population variance over the members, (rows, *output shape), in the space the rule combines in."""
    mean = np.zeros(stack[0].shape, np.float64)
    for values in stack:
        mean += values
    mean /= len(stack)
    spread = np.zeros_like(mean)
    for values in stack:
        spread += (values - mean) ** 2
    return spread / len(stack)


@dataclass(frozen=True, slots=True)
class Entropies:
    """Entropies in nats, each (rows, …) without the axis of classes."""

    predictive: Doubles
    expected: Doubles

    @property
    def mutual_information(self) -> Doubles:
        """Never negative; rounding would make it so where all members agree."""
        return np.maximum(self.predictive - self.expected, 0.0)


def entropies(
    stack: Sequence[Floats],
    weights: Sequence[float],
    *,
    logits: bool,
    axis: int | None = -1,
    of_passes: Mapping[int, Floats] | None = None,
) -> Entropies:
    """Return the entropies of an ensemble.

    stack      probabilities of the classes, (rows, *output shape) of each member, or logits of them
    weights    what each member counts, in member order
    logits     whether the stack holds logits
    axis       of the classes; None: they are labels that do not exclude one another, each with entropies of its own
    of_passes  place of a member → mean entropy of its passes, (rows, …); of those that are run in passes
    """
    mixture = np.zeros(stack[0].shape, np.float64)
    expected = np.zeros_like(mixture if axis is None else mixture.sum(axis=axis))
    known = of_passes or {}
    for place, (weight, values) in enumerate(zip(weights, stack, strict=True)):
        share = weight / sum(weights)
        probabilities = _probabilities(values, axis) if logits else values.astype(np.float64)
        mixture += share * probabilities
        expected += share * (known[place] if place in known else _entropy(probabilities, axis))
    return Entropies(_entropy(mixture, axis), expected)


def disagreement(stack: Sequence[Floats], labels: Labels, axis: int = -1) -> Doubles:
    """Return the share of the members whose label is another than that of `labels`, (rows, …). axis: of the classes."""
    others = np.zeros(labels.shape, np.float64)
    for values in stack:
        others += values.argmax(axis=axis) != labels
    return others / len(stack)


def _entropy(probabilities: Doubles, axis: int | None) -> Doubles:
    """Return −Σ p log p over the axis, where 0 log 0 is 0; without an axis, over each p and 1 − p."""
    entropy: Doubles
    if axis is None:
        entropy = -(_times_log(probabilities) + _times_log(1 - probabilities))
    else:
        entropy = -_times_log(probabilities).sum(axis=axis)
    return entropy


def _times_log(probabilities: Doubles) -> Doubles:
    logarithm = np.log(probabilities, out=np.zeros_like(probabilities), where=probabilities > 0)
    product: Doubles = probabilities * logarithm
    return product


def _probabilities(logits: Floats, axis: int | None) -> Doubles:
    """Return the softmax over the axis; without an axis, the sigmoid of each."""
    if axis is None:
        return 0.5 * (1 + np.tanh(0.5 * logits.astype(np.float64)))
    shifted = np.exp(logits - logits.max(axis=axis, keepdims=True).astype(np.float64))
    probabilities: Doubles = shifted / shifted.sum(axis=axis, keepdims=True)
    return probabilities
