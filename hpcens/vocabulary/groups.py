"""Groups: equal members, of other weights alone, that run as one batched network. A group is known by its name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from hpcens.vocabulary.numerics import MemberNumerics

STACKED = "stacked"
"""The runtime of members that run as one."""


def group_name(members: Sequence[str]) -> str:
    """Name a group after its members, in member order: the first, the last, and how many there are."""
    return f"{members[0]} … {members[-1]} ({len(members)})"


def first_of(name: str) -> str:
    """Return the first member of a group by its name; of a member its name."""
    return name.partition(" … ")[0]


def groups_of(members: Mapping[str, MemberNumerics]) -> dict[str, tuple[str, ...]]:
    """Return the groups there are, by name, each with its members in their order."""
    groups: dict[str, tuple[str, ...]] = {}
    for member, how in members.items():
        if how.group:
            groups[how.group] = (*groups.get(how.group, ()), member)
    return groups


def group_by_member(members: Mapping[str, MemberNumerics]) -> dict[str, str]:
    """Return member → the name of its group, of those that are in one."""
    return {member: how.group for member, how in members.items() if how.group}


def units_of(members: Mapping[str, MemberNumerics]) -> dict[str, tuple[str, ...]]:
    """Return what runs by itself, member or group → its members, in member order."""
    return in_units(members, groups_of(members))


def in_units(members: Iterable[str], groups: Mapping[str, Sequence[str]]) -> dict[str, tuple[str, ...]]:
    """Return what runs by itself, member or group → its members, in the order in which the first of each comes.

    groups  name → members
    """
    of = {member: name for name, grouped in groups.items() for member in grouped}
    units: dict[str, tuple[str, ...]] = {}
    for member in members:
        name = of.get(member, member)
        units[name] = (*units.get(name, ()), member)
    return units
