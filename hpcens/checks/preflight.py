"""Preflight: what can be known before ranks are started, and is better refused now than after hours in a queue."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from hpcens.checks.findings import Preflight as Preflight
from hpcens.checks.imports import RULE, with_imports
from hpcens.checks.trials import TrialBook, is_found
from hpcens.combining import rule_digests
from hpcens.dataset import Facts, Routed, inspecting
from hpcens.engine import gpu_libraries
from hpcens.errors import DataError
from hpcens.members import input_places, layout_digests, member_digests
from hpcens.result import (
    begins_anew,
    check_output,
    is_finished,
    make_fingerprint,
    outputs_branch,
    require_fitting,
    rule_branch,
    stored_members,
    torch_version,
)
from hpcens.rules import combining_space
from hpcens.specs import BadRows, Job, MemberSpec, RunSpec
from hpcens.vocabulary import DRIVER, Plan, numerics_from_dict

_MOSTLY = 0.5  # a share of rows above which fill values are the rule, as in maps with land and sea


def check(job: Job, book: TrialBook | None = None) -> Preflight:
    """Look at everything a job names. Raises the error that the job would end with.

    book  of trials that were passed, which tell what members import; None: the user's
    """
    space = combining_space(job.spec.rule, job.spec.members, job.spec.task)
    rows = {member.name: member.rows for member in job.spec.members} if job.spec.routed else None
    with inspecting(job.datasets, job.spec.dataset, job.limit, rows) as facts_of:
        digests = {
            member.name: member_digests(member, job.spec.search_path) | layout_digests(member, job.spec)
            for member in job.spec.members
        }
        rule = rule_digests(job.spec, space)
        facts = facts_of()
    if facts.routed is not None:
        digests = _with_rows(digests, facts.routed, facts.rows)
        _require_scored(facts.routed, job.spec.bad_rows, facts.rows)
    for member in job.spec.members:
        require_numbers(member, job.spec.bad_rows, facts)
    check_output(job.output, job.spec.output.compression, *job.datasets)
    if job.plan is not None:
        Plan.load(job.plan)
    return after_trials(job, Preflight(facts, digests, rule, space), book)


def _with_rows(digests: dict[str, dict[str, str]], routed: Routed, rows: int) -> dict[str, dict[str, str]]:
    """Add to what makes each member which rows it scores, where it does not score all."""
    chosen = {name: {"rows": f"{count} of {rows}: {routed.digests[name]}"} for name, count in routed.rows.items()}
    return {name: each | chosen.get(name, {}) for name, each in digests.items()}


def _require_scored(routed: Routed, bad_rows: BadRows, rows: int) -> None:
    """Raise DataError where no member scores some row, and such rows are not to be masked."""
    if routed.unscored and bad_rows == "fail":
        first = ", ".join(map(str, routed.first))
        which = f"row {first}" if routed.unscored == 1 else f"{routed.unscored} of the {rows} rows, first {first}"
        raise DataError(
            f"no member scores {which}",
            "correct members[].rows or dataset.route; or have such rows masked: bad_rows: mask",
        )


def require_numbers(member: MemberSpec, bad_rows: BadRows, facts: Facts) -> None:
    """Raise DataError where most rows are bad ones for a member, since they hold fill values.

    bad_rows  what becomes of such rows
    Raises UsageError where the dataset lacks an input of the member's.
    """
    for name in (facts.names[place] for place in input_places(member, facts.names)):
        if member.bad_rows != "pass" and facts.filled.get(name, 0) > _MOSTLY:
            fate = "all such rows would be masked" if bad_rows == "mask" else "the first such row would end the run"
            raise DataError(
                f"{facts.filled[name]:.0%} of the rows looked at hold fill values in the input {name}, which are NaN to"
                f" member {member.name}: {fate}",
                f"have them replaced, dataset.inputs.{name}.fill: 0; or, if the network takes NaN, write bad_rows: pass"
                f" for the member; or score them as they are stored, dataset.inputs.{name}.decode: false",
            )


def after_trials(job: Job, preflight: Preflight, book: TrialBook | None = None) -> Preflight:
    """Return what was found with all that trials have told since. book: see `check`."""
    preflight = with_imports(job, preflight, book or TrialBook.default())
    _require_calibration(job.spec, preflight)
    return replace(preflight, stored=stored_members(job, partial(_fingerprint, job.spec, preflight)))


def _require_calibration(spec: RunSpec, preflight: Preflight) -> None:
    """Raise FingerprintMismatch where a calibration was fitted to something else, as far as that is known."""
    members = {
        member.name: {**preflight.digests[member.name], "output": member.output, "precision": member.computes_in}
        for member in spec.members
    }
    tree = {
        "members": members,
        "rule": rule_branch(spec, preflight.rule, preflight.space),
        "outputs": outputs_branch(spec),
    }
    require_fitting(spec, tree, lambda name, part: is_found(part) and (name or RULE) in preflight.unseen)


def is_complete(job: Job, preflight: Preflight) -> bool:
    """Return whether the job's result is complete already.

    Raises FingerprintMismatch where what is there was made of something else.
    """
    current = partial(_fingerprint, job.spec, preflight)
    return is_finished(job.output, current, extended=bool(preflight.stored), files=job.datasets)


def begins_anew_in(job: Job, preflight: Preflight) -> str:
    """Say that the job begins anew in the directory of another run, of which no row is durable; empty where not."""
    return begins_anew(job.output, partial(_fingerprint, job.spec, preflight))


def versions_now(numerics: Mapping[str, Any]) -> dict[str, Any]:
    """Return the versions installed now of what the numerics name.

    Of the GPUs' driver, which this host may not have, it is the one that they were fixed under.
    """
    now: dict[str, Any] = {"torch": torch_version()}
    if not (before := numerics.get("libraries")):
        return now
    return now | {"libraries": gpu_libraries() | {name: before[name] for name in (DRIVER,) if name in before}}


def _fingerprint(spec: RunSpec, preflight: Preflight, numerics: dict[str, Any]) -> dict[str, Any]:
    """Return the fingerprint that the job has now, under numerics that were fixed before."""
    return make_fingerprint(
        spec,
        data=preflight.facts.identity,
        members=preflight.digests,
        rule=preflight.rule,
        space=preflight.space,
        numerics=numerics_from_dict(numerics | versions_now(numerics)),
    )
