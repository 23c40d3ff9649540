"""Members left out one at a time: the rule under which the others are combined, and the work that each is."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import replace

from hpcens.combining import Combiner, rule_digests, tried_combiner
from hpcens.errors import HpcensError
from hpcens.files import MALFORMED
from hpcens.result import Finished, outputs_of, rounded_members
from hpcens.rules import Floats
from hpcens.specs import DtypeName, RunSpec, Space
from hpcens.vocabulary import Array, Plan


class Omissions:
    """Combine what members gave, each in turn left out, as `combine` would.

    result   that stores its members
    spec     its configuration
    names    of its members, in member order
    `why` says why there are none to judge, empty where there are.
    """

    def __init__(self, result: Finished, spec: RunSpec, names: Sequence[str]) -> None:
        self._names = tuple(names)
        self._combiners: dict[str, Combiner] = {}
        self.why = self._unfit(result, spec)
        if not self.why:
            try:
                self._combiners = {name: self._without(name, result, spec) for name in self._names}
            except HpcensError as error:
                self.why = error.what

    @property
    def names(self) -> tuple[str, ...]:
        """The members that are left out in turn."""
        return tuple(self._combiners)

    def predictions(self, segment: int, stack: Mapping[str, Floats], masked: Sequence[int]) -> dict[str, Array]:
        """Return, for each member, the prediction of the others. stack: member → (rows, *output shape), as stored."""
        return {
            name: combiner.combine(segment, [stack[other] for other in self._names if other != name], masked)[
                "prediction"
            ]
            for name, combiner in self._combiners.items()
        }

    def _unfit(self, result: Finished, spec: RunSpec) -> str:
        if len(self._names) < 2:
            return "there is one member alone"
        if spec.rule.name == "stack":
            return "rule stack takes all of its members"
        if rounded := rounded_members(result.fingerprint, self._names):
            dtype = result.fingerprint["outputs"]["dtype"]
            return f"{', '.join(rounded)} were stored as {dtype}, rounded: score again with output.dtype: float32"
        if ":" in spec.rule.name:
            now, then = rule_digests(spec, self._space(result)), result.fingerprint["rule"].get("digests", {})
            if now["code"] != then.get("code"):
                return f"rule {spec.rule.name} has other code than scored"
        return ""

    def _without(self, name: str, result: Finished, spec: RunSpec) -> Combiner:
        left = tuple(member for member in spec.members if member.name != name)
        dtype: DtypeName = "float64" if spec.output.dtype == "float64" else "float32"
        fewer = replace(spec, members=left, output=replace(spec.output, datasets=("prediction",), dtype=dtype))
        space, stored = self._space(result), result.output(f"members/{name}")
        digests = rule_digests(fewer, space)
        outputs = outputs_of(fewer, stored.shape, space, stored.class_axis)
        return tried_combiner(fewer, space, outputs, digests, stored.shape, stored.class_axis)

    @staticmethod
    def _space(result: Finished) -> Space:
        space: Space = result.fingerprint["rule"]["space"]
        return space


def work_of(result: Finished, names: Sequence[str]) -> dict[str, float]:
    """Return each member's share of the device time, by the plan that a result keeps; empty where it does not tell."""
    seconds = seconds_of(result, names)
    return {name: each / sum(seconds.values()) for name, each in seconds.items()}


def seconds_of(result: Finished, names: Sequence[str]) -> dict[str, float]:
    """Return each member's device-seconds a row, by the plan that a result keeps; empty where it does not tell."""
    with contextlib.suppress(*MALFORMED, ArithmeticError):
        plan = Plan.from_json(result.document("plan"))
        busy = dict.fromkeys(names, 0.0)
        rows = dict.fromkeys(names, 0.0)
        for hosting in plan.hostings:
            for name in hosting.shares.keys() & busy.keys():
                busy[name] += len(hosting.devices) * hosting.shares[name] / hosting.speeds[name]
                rows[name] += len(hosting.devices) * hosting.shares[name]
        seconds = {name: busy[name] / rows[name] for name in names}
        return seconds if all(seconds.values()) else {}
    return {}
