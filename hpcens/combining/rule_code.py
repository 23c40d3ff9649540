"""Rule code: digests of what a rule of the user's own is made of."""

from __future__ import annotations

from hpcens.combining.stacking import stacker
from hpcens.errors import RuleError
from hpcens.members import member_digests
from hpcens.result.fingerprint import torch_version
from hpcens.specs import RunSpec, Space
from hpcens.usercode import code_digest


def rule_digests(spec: RunSpec, space: Space) -> dict[str, str]:
    """What makes a rule of the user's own: digests of its code and weights; empty for the rules of the house.

    Raises RuleError or MemberError where they cannot be found.
    """
    rule = spec.rule
    if rule.name == "stack":
        member = stacker(rule, space)
        return {**member_digests(member, spec.search_path), "output": member.output, "torch": torch_version()}
    if ":" not in rule.name:
        return {}
    code = code_digest(rule.name, spec.search_path)
    if code is None:
        raise RuleError(
            f"rule {rule.name}: there is no module {rule.name.partition(':')[0]!r}",
            f"rules are imported from {spec.search_path} and from the Python path",
        )
    return {"code": code}
