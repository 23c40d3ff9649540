"""Rules: how the members' outputs of a segment become one. Plain numpy, no torch.

A rule sees the whole stack, (members, rows, *output shape), always in member order, so that the
bytes written never depend on which member finished first. Rules compute in float64; they are rounded once, to float32,
or not at all where the ensemble combines in float64.

| rule | what it gives | where |
| --- | --- | --- |
| mean, weighted | arithmetic mean | `average` |
| geometric | normalised geometric mean of probabilities | `average` |
| vote | share of the members that vote for a class | `vote` |
| median, trimmed, min, max | by the order of the members' outputs, element by element | `order` |
| `package.module:function` | what the user's function gives | `function` |
| stack | what a torch module makes of the members' outputs | `combining.stacking` |
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from hpcens.errors import UsageError
from hpcens.rules.average import geometric, weighted
from hpcens.rules.calibration import Calibrator as Calibrator
from hpcens.rules.calibration import logits_of as logits_of
from hpcens.rules.calibration import probabilities_at as probabilities_at
from hpcens.rules.calibration import rank_of as rank_of
from hpcens.rules.certainty import accepted as accepted
from hpcens.rules.certainty import certainty as certainty
from hpcens.rules.certainty import least_sure as least_sure
from hpcens.rules.function import load_function
from hpcens.rules.normalization import normalized
from hpcens.rules.order import largest, median, smallest, trimmed
from hpcens.rules.stack import Doubles as Doubles
from hpcens.rules.stack import Floats as Floats
from hpcens.rules.stack import Rule as Rule
from hpcens.rules.stack import label as label
from hpcens.rules.stack import labels as labels
from hpcens.rules.stack import top as top
from hpcens.rules.uncertainty import disagreement as disagreement
from hpcens.rules.uncertainty import entropies as entropies
from hpcens.rules.uncertainty import variance as variance
from hpcens.rules.vote import vote
from hpcens.specs import COMBINABLE, NOT_MULTILABEL, RULE_SPACES, MemberSpec, OutputDtype, RuleSpec, Space, Task


def combining_space(rule: RuleSpec, members: Sequence[MemberSpec], task: Task | None = None) -> Space:
    """Return the space in which the rule combines: as stated, else values or probabilities.

    Raises UsageError where some member's output cannot be brought into that space, or the rule makes no sense there or
    for the task.
    """
    if task == "multilabel" and rule.name in NOT_MULTILABEL:
        raise UsageError(
            f"rule {rule.name} is for classes that exclude one another, and the task is multilabel",
            "for example rule: mean",
        )
    outputs = {member.output for member in members}
    space: Space = rule.space or ("values" if outputs == {"values"} else "probabilities")
    wrong = [f"{member.name} ({member.output})" for member in members if member.output not in COMBINABLE[space]]
    if wrong:
        raise UsageError(
            f"rule {rule.name} combines {space}, but these members cannot be brought there: {', '.join(wrong)}",
            "set rule.space, or the output of the members, so that all can be combined in one space",
        )
    if space not in RULE_SPACES.get(rule.name, (space,)):
        raise UsageError(
            f"rule {rule.name} combines {' or '.join(RULE_SPACES[rule.name])}, not {space}", "for example rule: mean"
        )
    return space


def weights_of(rule: RuleSpec, members: Sequence[MemberSpec]) -> tuple[float, ...]:
    """Return what each member counts, in member order: its weight under the rule weighted, else 1."""
    if rule.name != "weighted":
        return (1.0,) * len(members)
    return tuple(1.0 if member.weight is None else member.weight for member in members)


def make_rule(
    rule: RuleSpec,
    members: Sequence[MemberSpec],
    search_path: Path = Path(),
    code: str | None = None,
    dtype: OutputDtype = "float32",
    *,
    axis: int = -1,
) -> Rule:
    """Make any rule but `stack`, as a function: of (rows, *output shape) for each member, to one such array.

    search_path  folder from which a function of the user's own is imported
    code         digest that the function's module must have; None: any
    dtype        to which it rounds: `RunSpec.combined_dtype`
    axis         of the classes in (rows, *output shape)
    """
    own = ":" in rule.name
    names = tuple(member.name for member in members)
    plain = load_function(rule.name, search_path, names, code, dtype) if own else _exact(rule, members, axis)
    combine = normalized(plain, axis) if rule.normalize else plain
    return lambda stack: np.asarray(combine(stack), dtype)


def _exact(rule: RuleSpec, members: Sequence[MemberSpec], axis: int) -> Rule:
    """Make a rule of hpcens, before it is rounded."""
    match rule.name:
        case "mean" | "weighted":
            return weighted(weights_of(rule, members))
        case "geometric":
            return partial(geometric, axis=axis)
        case "vote":
            return partial(vote, axis=axis)
        case "median":
            return median
        case "trimmed":
            return trimmed(rule.cut(len(members)))
        case "min":
            return smallest
        case "max":
            return largest
    raise UsageError(f"there is no rule {rule.name!r}", "for example rule: mean")
