"""Notes: what is no fault of a job, but is better known before hours are spent on it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from hpcens.checks.findings import Preflight
from hpcens.specs import Job, MemberSpec

_NAMED = 2


def notes(job: Job, preflight: Preflight) -> Iterator[str]:
    """Yield what is to be said of a job before it starts, a line each."""
    yield from _additions(job, preflight)
    yield from _twins(job, preflight)
    yield from _unscaled(job, preflight)
    yield from _passes(job)


def some(names: Sequence[str]) -> str:
    """Write a few names as they are, of many the first and their number."""
    if len(names) <= _NAMED:
        return " and ".join(names)
    return f"{names[0]} and {len(names) - 1} more"


def _additions(job: Job, preflight: Preflight) -> Iterator[str]:
    """Say that a finished result is about to be replaced by one with more members."""
    if preflight.stored:
        added = [name for name in job.spec.member_names if name not in preflight.stored]
        yield (
            f"{job.output} is complete with {some(preflight.stored)}: {some(added)} alone will be scored and added;"
            " the file is replaced once the new one is whole"
        )


def _unscaled(job: Job, preflight: Preflight) -> Iterator[str]:
    """Name the members that take pixels as cameras give them, where nothing scales them before the network."""
    names = preflight.facts.names
    for pixels in preflight.facts.pixels:
        takers = [
            member.name
            for member in job.spec.members
            if (taken := member.front.inputs or names).count(pixels)
            and not _is_scaled(member, pixels, first=taken[0] == pixels)
            and member.name not in preflight.stored
        ]
        if takers:
            yield (
                f"input {pixels} holds whole numbers from 0 to 255, and {some(takers)} take{'s' * (len(takers) == 1)}"
                " them as they are; if the network was trained on scaled ones, write preprocess: [{scale: 1/255}]"
            )


def _is_scaled(member: MemberSpec, name: str, *, first: bool) -> bool:
    """Tell whether a step brings an input's values to another scale, or takes them for something else.

    first  whether it is the member's first input, which steps are applied to unless they name another
    """
    return any(
        (step.scale, step.normalize, step.call) != (None, None, None)
        or (step.cast is not None and not step.cast.startswith(("float", "bfloat")))
        for step in member.front.preprocess
        if step.input == name or (step.input is None and (first or step.call is not None))
    )


def _twins(job: Job, preflight: Preflight) -> Iterator[str]:
    """Name members that are one network, used alike: the ensemble counts it more than once."""
    alike: dict[str, list[str]] = {}
    for member in job.spec.members:
        made_of = [dict(preflight.digests[member.name]), member.output, member.computes_in, member.class_axis]
        alike.setdefault(json.dumps(made_of, sort_keys=True), []).append(member.name)
    for names in alike.values():
        if len(names) > 1:
            last = f"{', '.join(names[:-1])} and {names[-1]}"
            yield f"{last} are the same network: its weights, code, arguments and inputs are the same"


def _passes(job: Job) -> Iterator[str]:
    """Say of members with passes what is not tried of them: in another batch they draw other numbers."""
    if drawn := [member.name for member in job.spec.members if member.passes is not None]:
        yield f"{some(drawn)}: run in passes; whether a row's output depends on rows beside it is not tried"
