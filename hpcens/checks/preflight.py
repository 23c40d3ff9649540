"""Preflight: what can be known before ranks are started, and is better refused now than after hours in a queue."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

from hpcens.combining import rule_digests
from hpcens.dataset import Facts, Input, inspecting
from hpcens.members import input_places, member_digests
from hpcens.result import check_output, is_finished, make_fingerprint, stored_members, torch_version
from hpcens.rules import combining_space
from hpcens.specs import Job, RunSpec, Space
from hpcens.vocabulary import Plan, numerics_from_dict


@dataclass(frozen=True, slots=True)
class Preflight:
    """What was found of a job before it starts.

    facts    of the dataset
    digests  of what makes each member: its files, its code, its use
    rule     digests of a rule of the user's own; empty for the others
    space    the one the rule combines in
    stored   members whose outputs are taken from the finished result, to which the job adds others
    """

    facts: Facts
    digests: Mapping[str, Mapping[str, str]]
    rule: Mapping[str, str]
    space: Space
    stored: tuple[str, ...] = ()

    def to_json(self) -> str:
        """Return it as a line of JSON."""
        return json.dumps(asdict(self))

    @staticmethod
    def from_json(text: str) -> Preflight:
        """Return what `to_json` wrote."""
        raw = json.loads(text)
        facts = raw.pop("facts")
        facts["inputs"] = tuple(Input(**of | {"shape": tuple(of["shape"])}) for of in facts["inputs"])
        return Preflight(facts=Facts(**facts), stored=tuple(raw.pop("stored")), **raw)


def check(job: Job) -> Preflight:
    """Look at everything a job names. Raises the error that the job would end with."""
    space = combining_space(job.spec.rule, job.spec.members)
    with inspecting(job.datasets, job.spec.dataset, job.limit) as facts_of:
        digests = {member.name: member_digests(member, job.spec.search_path) for member in job.spec.members}
        rule = rule_digests(job.spec, space)
        facts = facts_of()
    for member in job.spec.members:
        input_places(member, facts.names)
    check_output(job.output, job.spec.output.compression, *job.datasets)
    if job.plan is not None:
        Plan.load(job.plan)
    preflight = Preflight(facts, digests, rule, space)
    return replace(preflight, stored=stored_members(job, partial(_fingerprint, job.spec, preflight)))


def is_complete(job: Job, preflight: Preflight) -> bool:
    """Return whether the job's result is complete already.

    Raises FingerprintMismatch where what is there was made of something else.
    """
    current = partial(_fingerprint, job.spec, preflight)
    return is_finished(job.output, current, extended=bool(preflight.stored))


def _fingerprint(spec: RunSpec, preflight: Preflight, numerics: dict[str, Any]) -> dict[str, Any]:
    """Return the fingerprint that the job has now, under numerics that were fixed before."""
    return make_fingerprint(
        spec,
        data=preflight.facts.identity,
        members=preflight.digests,
        rule=preflight.rule,
        space=preflight.space,
        numerics=numerics_from_dict(numerics | {"torch": torch_version()}),
    )
