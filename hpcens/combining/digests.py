"""What a rule of the user's own is made of, as digests."""

from __future__ import annotations

from collections.abc import Mapping

from hpcens.combining.stacking import stack_member
from hpcens.members import member_digests
from hpcens.result import torch_version
from hpcens.rules.function import function_digest
from hpcens.specs import RunSpec, Space


def rule_digests(spec: RunSpec, space: Space) -> dict[str, str]:
    """Digest the code and weights of a rule of the user's own; return nothing for a rule of hpcens.

    Raises RuleError or MemberError where they cannot be found.
    """
    rule = spec.rule
    if rule.name == "stack":
        member = stack_member(rule, space, spec.combined_dtype)
        digests = member_digests(member, spec.search_path)
        return {**digests, "output": member.output, "torch": torch_version(), "precision": member.computes_in}
    return {"code": function_digest(rule.name, spec.search_path)} if ":" in rule.name else {}


def rule_modules(spec: RunSpec, digests: Mapping[str, str]) -> dict[str, str]:
    """Return the module in which a rule of the user's own lies, with its digest out of `rule_digests`."""
    path = spec.rule.factory or spec.rule.name
    return {path.partition(":")[0]: digests["code"]} if ":" in path else {}
