"""Losses of weighted ensembles: what is kept of each member is linear in the weights, and a loss follows it. Pure.

| outputs | loss | what is kept of a member, a point |
| --- | --- | --- |
| classes, labels: probabilities | log_loss | the probability of what is true |
| classes, labels: logits | log_loss | every logit less that of what is true |
| classes, labels: probabilities; values | squared_error | every number less what it should be |
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from hpcens.errors import UsageError
from hpcens.evaluation.labels import Outputs
from hpcens.rules import Doubles
from hpcens.shell import option
from hpcens.vocabulary import Array

By = Literal["log_loss", "squared_error"]


@dataclass(frozen=True, slots=True)
class Loss:
    """A loss of predictions that are Σ w·member, Σ w = 1; convex in the weights.

    outputs  what the predictions are
    space    probabilities, logits or values
    by       which loss
    least    probabilities count as no less than this, and no more than 1 less it, in logarithms
    """

    outputs: Outputs
    space: str
    by: By
    least: float

    def __post_init__(self) -> None:
        if self.by == "log_loss" and self.outputs.kind == "values":
            raise UsageError(
                "log_loss is for classes, and these are values",
                f"choose by squared_error: {option('by', 'squared_error')}",
            )
        if self.by == "squared_error" and self.space == "logits":
            raise UsageError(
                "squared_error of logits says nothing of classes", f"choose by log_loss: {option('by', 'log_loss')}"
            )

    @property
    def measure(self) -> str:
        """The name of what is minimised, as in scikit-learn."""
        if self.by == "log_loss":
            return "log_loss"
        return "mean_squared_error" if self.outputs.kind == "values" else "brier_score"

    @property
    def depth(self) -> int:
        """How many numbers are kept of a point."""
        if self.outputs.kind == "labels":
            return 2 if self.space == "logits" else 1
        return 1 if self._of_truth or self.outputs.kind == "values" else self.outputs.classes

    @property
    def points(self) -> int:
        """How many losses a row has."""
        return self.outputs.points * (self.outputs.classes if self.outputs.kind == "labels" else 1)

    @property
    def _of_truth(self) -> bool:
        return self.by == "log_loss" and self.space == "probabilities"

    def terms(self, values: Doubles, targets: Array) -> Doubles:
        """Return what is kept, (rows, points, depth), of a member's values and of targets as `as_targets` has them."""
        rows = len(values)
        if self.outputs.kind == "values":
            return np.asarray(np.where(np.isnan(targets), 0.0, values - targets))[..., None]
        if self.outputs.kind == "labels":
            flat, true = values.reshape(rows, -1), targets.reshape(rows, -1)
            if self.space == "logits":
                against = np.where(true == 1, -flat, flat)
                return np.stack([np.zeros_like(against), against], -1)
            return np.asarray(np.where(true == 1, flat, 1 - flat) if self._of_truth else flat - true)[..., None]
        places = np.maximum(targets, 0)[..., None]
        if self.by == "squared_error":
            return np.asarray(values - (np.arange(self.outputs.classes) == places))
        of_true = np.take_along_axis(values, places, -1)
        return of_true if self._of_truth else np.asarray(values - of_true)

    def known(self, targets: Array) -> Array:
        """Return which points have a target, (rows, points)."""
        known: Array = ~np.isnan(targets) if self.outputs.kind == "values" else targets >= 0
        return known.reshape(len(targets), -1)

    def losses(self, combined: Doubles, known: Array) -> Doubles:
        """Return the loss of each point, 0 where none is known. combined: Σ w·terms, (rows, points, depth)."""
        if self.by == "squared_error":
            each = (combined**2).sum(-1)
        elif self._of_truth:
            each = -np.log(np.clip(combined[..., 0], self.least, 1 - self.least))
        else:
            top = combined.max(-1)
            each = top + np.log(np.exp(combined - top[..., None]).sum(-1))
            each = np.clip(each, -np.log1p(-self.least), -np.log(self.least))
        return np.where(known, each, 0.0)

    def slopes(self, combined: Doubles, known: Array) -> Doubles:
        """Return by how much each point's loss grows with each of its numbers, those of `combined`."""
        if self.by == "squared_error":
            each = 2 * combined
        elif self._of_truth:
            each = -1 / np.maximum(combined, self.least)
        else:
            shifted = np.exp(combined - combined.max(-1, keepdims=True))
            each = shifted / shifted.sum(-1, keepdims=True)
        return np.where(known[..., None], each, 0.0)
