"""Groups: members that may run as one batched network, and those that run by themselves whatever they are made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from hpcens.specs.member import MemberSpec

if TYPE_CHECKING:
    from hpcens.specs import RunSpec


def why_alone(member: MemberSpec, spec: RunSpec) -> str:
    """Say why a member runs by itself, as words that follow its name; empty where it may be one of a group."""
    if member.factory is None:
        return "is built by no factory"
    if member.loads_itself:
        return "has weights that its factory loads"
    keys: dict[str, object] = {
        "gradients": member.gradients,
        "passes": member.passes,
        "views": member.views,
        "rows": member.rows,
    }
    keys |= {"features": member.features, "precision: auto": member.precision == "auto"}
    if written := [key for key, value in keys.items() if value]:
        return f"has {written[0]}"
    return "is one of a cascade" if spec.cascade else ""


def alike(member: MemberSpec) -> str:
    """Return what of a member's spec has to be the same in all members of a group, as text."""
    return repr(replace(member, name="", weights=None, weight=None))


def grouped_spec(members: Sequence[MemberSpec], name: str) -> MemberSpec:
    """Return the spec of the first of a group, under the group's name."""
    return replace(members[0], name=name)
