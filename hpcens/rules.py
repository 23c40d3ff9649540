"""Rules: how the members' outputs of a segment become one. Plain numpy, no torch.

A rule sees the whole stack, (members, rows, *output shape), always in member order, so that the
bytes written never depend on which member finished first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from hpcens.errors import UsageError
from hpcens.specs import COMBINABLE, MemberSpec, RuleName, RuleSpec, Space

Floats = npt.NDArray[np.float32]
Rule = Callable[[Sequence[Floats]], Floats]


def combining_space(rule: RuleSpec, members: Sequence[MemberSpec]) -> Space:
    """The space in which the rule combines: as stated, else values or probabilities.

    Raises UsageError where some member's output cannot be brought into that space.
    """
    outputs = {member.output for member in members}
    space: Space = rule.space or ("values" if outputs == {"values"} else "probabilities")
    wrong = [f"{member.name} ({member.output})" for member in members if member.output not in COMBINABLE[space]]
    if wrong:
        raise UsageError(
            f"rule {rule.name} combines {space}, but these members cannot be brought there: {', '.join(wrong)}",
            "set rule.space, or the output of the members, so that all can be combined in one space",
        )
    return space


def make_rule(rule: RuleSpec, members: Sequence[MemberSpec]) -> Rule:
    """The rule as a function of the stack: members × (rows, *output shape) → (rows, *output shape), float32."""
    weights = {member.name: member.weight for member in members}
    return _RULES[rule.name]([weights[member.name] for member in members])


def _mean(weights: Sequence[float | None]) -> Rule:
    return _weighted([1.0] * len(weights))


def _weighted(weights: Sequence[float | None]) -> Rule:
    """Σ w·x / Σ w, accumulated in float64 in member order and rounded once."""
    exact = [1.0 if weight is None else weight for weight in weights]
    total = sum(exact)

    def combine(stack: Sequence[Floats]) -> Floats:
        accumulated = np.zeros(stack[0].shape, np.float64)
        for weight, values in zip(exact, stack, strict=True):
            accumulated += values if weight == 1.0 else weight * values.astype(np.float64)
        accumulated /= total
        return accumulated.astype(np.float32)

    return combine


def _vote(weights: Sequence[float | None]) -> Rule:
    """Share of the members whose largest output is the class; a member's tie goes to its first class."""
    total = len(weights)

    def combine(stack: Sequence[Floats]) -> Floats:
        votes = np.zeros(stack[0].shape, np.float64)
        for values in stack:
            winner = np.expand_dims(values.argmax(axis=-1), -1)
            np.put_along_axis(votes, winner, np.take_along_axis(votes, winner, -1) + 1.0, -1)
        return (votes / total).astype(np.float32)

    return combine


_RULES: Mapping[RuleName, Callable[[Sequence[float | None]], Rule]] = {
    "mean": _mean,
    "weighted": _weighted,
    "vote": _vote,
}


def label(prediction: Floats) -> npt.NDArray[Any]:
    """Index of the largest value along the last axis; a tie goes to the lowest index. int32."""
    return np.asarray(prediction.argmax(axis=-1), np.int32)
