"""Find equal members, which may run as one batched network: they differ in their weights alone."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from statistics import median

from hpcens.checks.preflight import Preflight
from hpcens.engine import gpu_libraries
from hpcens.errors import UsageError
from hpcens.members import digest_of, speed_digest
from hpcens.result import torch_version
from hpcens.shell import option
from hpcens.specs import MemberSpec, RunSpec
from hpcens.specs.groups import alike, why_alone
from hpcens.vocabulary import Numerics, Profile, ProfileKey
from hpcens.vocabulary.groups import STACKED, group_name, groups_of

Groups = dict[str, tuple[MemberSpec, ...]]
"""Name of a group → its members, in member order."""


def fixed_groups(members: Iterable[MemberSpec], numerics: Numerics | None, *, given: bool) -> Groups:
    """Return the groups that are decided already, of those of these members that are in one.

    given  whether a plan file decided them
    Raises UsageError where it is to be followed, and not all of a group are among the members.
    """
    by_name = {member.name: member for member in members}
    groups = groups_of(numerics.members) if numerics is not None else {}
    for name, grouped in groups.items():
        if given and name != group_name([member for member in grouped if member in by_name]):
            raise UsageError(
                f"the plan has {name} run as one batched network, and not all of these members are to be scored",
                f"plan again, without {option('plan')}",
            )
    found = {name: tuple(by_name[m] for m in grouped if m in by_name) for name, grouped in groups.items()}
    return {name: group for name, group in found.items() if group}


def equal_members(
    spec: RunSpec, members: Iterable[MemberSpec], preflight: Preflight, excluded: Collection[str]
) -> Groups:
    """Return the groups that there may be of these members.

    excluded  names of members that run by themselves: their outputs were wrong as one of a group
    """
    groups: dict[tuple[str, str], list[MemberSpec]] = {}
    for member in members:
        digests = preflight.digests[member.name]
        steady = member.name not in preflight.unsteady and member.name not in excluded
        if "code" in digests and steady and not why_alone(member, spec):
            groups.setdefault((speed_digest(digests), alike(member)), []).append(member)
    return {group_name([m.name for m in group]): tuple(group) for group in groups.values() if len(group) > 1}


def require_grouped(spec: RunSpec, members: Iterable[MemberSpec], groups: Groups) -> None:
    """Raise UsageError where a member is to run as one of a group, and is of none."""
    grouped = {member.name for group in groups.values() for member in group}
    for member in members:
        if member.name not in grouped:
            why = why_alone(member, spec) or "is equal to no other member that is scored with it"
            raise UsageError(
                f"member {member.name} {why}, and cannot run in {STACKED}, as plan.runtime asks",
                "write plan.runtime: auto in the YAML, which takes the fastest for each",
            )


def beside(group: Profile, members: Sequence[Profile], count: int) -> Profile:
    """Return the profile of a group at the level of its members', which were measured at another time.

    Only how many times as fast it was, measured beside them, is taken over; where a batch size was measured of no
    member, its rows/s stay as they are.
    members  profiles in eager, of those that have one
    count    of the members there are
    """
    speeds = {size: batch.rows_per_second for size, batch in group.batches.items()}
    for size, batch in group.batches.items():
        alone = [member.batches[size].rows_per_second for member in members if size in member.batches]
        if alone and batch.times:
            speeds[size] = batch.times * median(alone) / count
    return group.at_speeds(speeds)


def profile_key(preflight: Preflight, member: MemberSpec, kind: str, runtime: str) -> ProfileKey:
    """Return what a profile of the member is kept under."""
    digest = digest_of(dict(preflight.digests[member.name]))
    return ProfileKey(kind, digest, runtime, preflight.facts.row, _versions(kind), member.computes_in)


def group_key(preflight: Preflight, members: Iterable[MemberSpec], kind: str) -> ProfileKey:
    """Return what a profile of members that run as one is kept under: it is made of all of them."""
    group = tuple(members)
    digest = digest_of({str(i): digest_of(dict(preflight.digests[m.name])) for i, m in enumerate(group)})
    return ProfileKey(kind, digest, STACKED, preflight.facts.row, _versions(kind), group[0].computes_in)


def _versions(kind: str) -> str:
    """Return the version of torch, and on GPUs a digest of those of the libraries that compute there."""
    if kind.startswith("cpu"):
        return torch_version()
    return f"{torch_version()} {digest_of(gpu_libraries())[:12]}"
