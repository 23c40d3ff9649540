"""Keep a run's numbers as they were fixed: its numerics and its fingerprint, decided once and kept by every start."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

from hpcens.checks.preflight import Preflight
from hpcens.errors import FingerprintMismatch
from hpcens.result import begun_tree, fingerprint_of, is_whole, make_fingerprint, numerics_of, require_same
from hpcens.runs import RunDirectory, is_void
from hpcens.specs import Job, MemberSpec, Precision
from hpcens.vocabulary import DRIVER, Numerics, Plan, numerics_from_dict


def scored_members(job: Job, preflight: Preflight) -> tuple[MemberSpec, ...]:
    """Return the members to be scored: all whose outputs are not stored already."""
    return tuple(member for member in job.spec.members if member.name not in preflight.stored)


def fixed_numerics(job: Job, preflight: Preflight) -> Numerics | None:
    """Return the numerics of the members to be scored that an earlier start, a stored result or a given plan fixed.

    None where nothing fixed any. Raises UsageError where the given plan cannot be read.
    """
    tree = _fixed_fingerprint(job, preflight)
    if tree is not None:
        fixed = numerics_from_dict(numerics_of(tree))
    elif job.plan is not None:
        fixed = with_precisions(Plan.load(job.plan).numerics, job.spec.members)
    else:
        return None
    scored = {member.name for member in scored_members(job, preflight)}
    return replace(fixed, members={name: how for name, how in fixed.members.items() if name in scored})


def with_precisions(numerics: Numerics, members: Sequence[MemberSpec]) -> Numerics:
    """Return numerics with the precisions of the members; of one that is yet to be chosen the numerics' own stays."""
    precisions = {member.name: member.computes_in for member in members if member.precision != "auto"}
    own = {name: replace(how, precision=precisions.get(name, how.precision)) for name, how in numerics.members.items()}
    return replace(numerics, members=own)


def in_precisions(job: Job, numerics: Numerics) -> Job:
    """Return the job with the precisions that were chosen for its members. numerics: in which they are fixed."""
    members = tuple(in_precision(member, numerics) for member in job.spec.members)
    return job if members == job.spec.members else replace(job, spec=replace(job.spec, members=members))


def in_precision(member: MemberSpec, numerics: Numerics | None) -> MemberSpec:
    """Return a member in the precision that was chosen for it, where it is to be chosen and that is done."""
    how = numerics.members.get(member.name) if numerics is not None else None
    if how is None or member.precision != "auto":
        return member
    return replace(member, precision=cast(Precision, how.precision))


def keep_fixed(planned: Numerics, fixed: Numerics) -> Numerics:
    """Return the fixed numerics, with those planned for members that were not fixed.

    Raises FingerprintMismatch where the devices or torch are others than were fixed.
    """
    strange = [kind for kind in planned.kinds if kind not in fixed.kinds]
    names = sorted({*fixed.libraries, *planned.libraries} - {DRIVER})
    both = fixed.libraries and planned.libraries
    if both and any(fixed.libraries.get(name) != planned.libraries.get(name) for name in names):
        pairs = [(name, fixed.libraries.get(name), planned.libraries.get(name)) for name in names]
        differing = [f"{name} {before} then, {now} now" for name, before, now in pairs if before != now]
        raise FingerprintMismatch(
            f"this run's numbers were fixed under other libraries of GPUs: {'; '.join(differing)}",
            "continue it in the environment it was begun in, or score into another output",
        )
    if strange or planned.torch != fixed.torch:
        raise FingerprintMismatch(
            f"this run's numbers were fixed for {', '.join(fixed.kinds)} and torch {fixed.torch};"
            f" here are {', '.join(planned.kinds)} and torch {planned.torch}",
            "continue it on devices of the same kind, or score into another output",
        )
    return replace(fixed, members=dict(planned.members) | dict(fixed.members))


def fingerprint_under(numerics: Numerics, job: Job, preflight: Preflight) -> dict[str, Any]:
    """Return the job's fingerprint under these numerics of the members to be scored.

    Raises FingerprintMismatch where the run was made of something else.
    """
    before = _fixed_fingerprint(job, preflight)
    if preflight.stored:
        members = dict(numerics_from_dict(numerics_of(before)).members) | dict(numerics.members)
        numerics = replace(numerics, members=members)
    tree = make_fingerprint(
        job.spec,
        data=preflight.facts.identity,
        members=preflight.digests,
        rule=preflight.rule,
        space=preflight.space,
        numerics=numerics,
    )
    if before is not None and before["members"].keys() == tree["members"].keys():
        place = RunDirectory.of(job.output).path
        require_same(before, tree, place, output=job.output, files=job.datasets)
    return tree


def _fixed_fingerprint(job: Job, preflight: Preflight) -> Any:
    """Return the run's own fingerprint, else that of the result it adds to; None where there is neither.

    That of a run that is void does not count, nor that of one without a durable row: they are to have another. A part
    never has another than the whole.
    """
    run = RunDirectory.of(job.output)
    tree = run.fixed_fingerprint if job.whole is not None else begun_tree(run)
    if is_whole(tree) and (job.whole is not None or not is_void(run.path, tree)):
        return tree
    return fingerprint_of(job.output) if preflight.stored else None
