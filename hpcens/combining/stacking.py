"""A torch module that is fed with the members' outputs and gives the ensemble's (Wolpert 1992)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from hpcens.errors import RuleError
from hpcens.members import load
from hpcens.rules import Floats, Rule
from hpcens.specs import LAST, MemberSpec, OutputDtype, RuleSpec, RunSpec, Space, Task, WeightsSpec

_NAME = "of rule stack"
_BATCH = 256


def stack_member(rule: RuleSpec, space: Space, dtype: OutputDtype) -> MemberSpec:
    """Describe the module of a rule `stack` as the member it is. dtype: in which the ensemble combines."""
    assert rule.factory is not None and rule.weights is not None, "the configuration was checked"
    output: Space = rule.output or ("values" if space == "values" else "logits")
    precision = rule.precision or ("float64" if dtype == "float64" else None)
    return MemberSpec(
        name=_NAME,
        factory=rule.factory,
        weights=WeightsSpec(path=rule.weights),
        arguments=rule.arguments,
        output=output,
        precision=precision,
    )


def load_stack_rule(
    rule: RuleSpec,
    space: Space,
    search_path: Path,
    digests: Mapping[str, str],
    dtype: OutputDtype,
    *,
    task: Task | None = None,
    class_axis: int = LAST,
) -> Rule:
    """Load the module as a rule: it sees (rows, members, *output shape), in the space the rule combines in.

    It runs on one CPU thread, in batches of 256 rows from the segment's first on: its bytes depend on the
    segment alone. Logits become probabilities where those are combined.

    dtype       in which the ensemble combines
    task        of the ensemble, and so of the module
    class_axis  of the ensemble, and so of what the module gives
    Raises MemberError where it cannot be loaded; the rule raises RuleError where it gives another shape or NaN.
    """
    from hpcens.engine import CpuHardware, Engine

    spec = stack_member(rule, space, dtype)
    hardware = CpuHardware(1)
    engine = Engine(hardware)
    alone = RunSpec(members=(spec,), search_path=search_path, task=task, class_axis=class_axis)
    engine.host(_NAME, load(spec, alone, inputs=("members",), space=space, digests=digests), batch=_BATCH)

    def combine(stack: Sequence[Floats]) -> Floats:
        rows = np.ascontiguousarray(np.stack(stack, axis=1))
        prediction, _ = engine.run(_NAME, (hardware.receive(hardware.stage(rows)),))
        if prediction.shape != stack[0].shape:
            raise RuleError(
                f"rule stack: {spec.factory} gave {list(prediction.shape)} for members of {list(stack[0].shape)}",
                "it must give the shape of one member's output",
            )
        if not np.isfinite(prediction).all():
            raise RuleError(f"rule stack: {spec.factory} gave NaN or infinity", "look at its weights")
        return np.asarray(prediction, dtype)

    return combine
