"""Normalisation: of what a rule gives that need not add up to 1 over the classes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hpcens.errors import RuleError
from hpcens.rules.stack import Doubles, Floats, Rule


def normalized(combine: Rule, axis: int = -1) -> Rule:
    """Make the rule whose probabilities are another's, divided by their sum over the axis of classes.

    Where all are 0, as the least of members that contradict one another may be, no class is likelier than another.
    Raises RuleError where one is negative.
    """

    def combine_and_divide(stack: Sequence[Floats]) -> Doubles:
        values = np.asarray(combine(stack), np.float64)
        if (values < 0).any():
            raise RuleError(
                f"the rule gives {values.min():.4g}, and a probability is not negative",
                "correct the rule, or remove rule.normalize",
            )
        total = values.sum(axis=axis, keepdims=True)
        shares = np.full_like(values, 1 / values.shape[axis])
        divided: Doubles = np.divide(values, total, out=shares, where=total > 0)
        return divided

    return combine_and_divide
