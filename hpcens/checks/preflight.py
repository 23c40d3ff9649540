"""Preflight: what can be known before ranks are started, and is better refused now than after hours in a queue."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from glob import glob, has_magic
from pathlib import Path
from typing import Any

from hpcens.combining.rule_code import rule_digests
from hpcens.config import RESULT_SUFFIX
from hpcens.dataset.file import Input
from hpcens.dataset.filters import check_filter
from hpcens.dataset.inspection import inspecting
from hpcens.dataset.source import Facts
from hpcens.errors import DataError, UsageError
from hpcens.files import read_json
from hpcens.members import input_places, member_digests
from hpcens.result.destination import check_output
from hpcens.result.fingerprint import make_fingerprint, numerics_of, require_same, torch_version
from hpcens.result.finished import fingerprint_of
from hpcens.rules import combining_space
from hpcens.runs import RunDirectory
from hpcens.specs import Job, Space
from hpcens.vocabulary import Plan, numerics_from_dict


@dataclass(frozen=True, slots=True)
class Preflight:
    """What was found: facts of the dataset, digests of each member and of the rule, the space it combines in.

    stored  members whose outputs are taken from the finished result, to which the job adds others
    """

    facts: Facts
    digests: Mapping[str, Mapping[str, str]]
    rule: Mapping[str, str]
    space: Space
    stored: tuple[str, ...] = ()

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @staticmethod
    def from_json(text: str) -> Preflight:
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
    check_output(job.output, *job.datasets)
    if job.spec.output.compression:
        check_filter(job.spec.output.compression)
    if job.plan is not None:
        Plan.load(job.plan)
    found = Preflight(facts, digests, rule, space)
    return replace(found, stored=_stored(job, found))


def _stored(job: Job, preflight: Preflight) -> tuple[str, ...]:
    """The members of the finished result, where the job differs from it by further members, its rule and outputs alone.

    None where their outputs are not stored in full.
    """
    before = fingerprint_of(job.output) if job.output.exists() else None
    names = job.spec.member_names
    if before is None or not set(before["members"]) < set(names):
        return ()
    held = before["outputs"]["dtype"] == "float32" and "members" in before["outputs"]["datasets"]
    now = current_fingerprint(job, preflight, numerics_of(before))
    same = all(before[branch] == now[branch] for branch in ("data", "numerics"))
    same = same and all(now["members"][name] == before["members"][name] for name in before["members"])
    same = same and before["rule"]["space"] == now["rule"]["space"]
    same = same and before["outputs"]["bad_rows"] == now["outputs"]["bad_rows"]
    return tuple(name for name in names if name in before["members"]) if held and same else ()


def current_fingerprint(job: Job, preflight: Preflight, numerics: dict[str, Any]) -> dict[str, Any]:
    """The fingerprint the job has now, under numerics that were fixed before."""
    return make_fingerprint(
        job.spec,
        data=preflight.facts.identity,
        members=preflight.digests,
        rule=preflight.rule,
        space=preflight.space,
        numerics=numerics_from_dict(numerics | {"torch": torch_version()}),
    )


def same_as_before(job: Job, preflight: Preflight) -> bool:
    """Whether the result stands already, finished. Raises FingerprintMismatch where what stands is another's.

    Compares with the finished file, else with the run directory; False where neither exists.
    """
    run = RunDirectory.of(job.output)
    begun = read_json(run.fingerprint)
    finished = fingerprint_of(job.output) if job.output.exists() else None
    if preflight.stored:  # the finished result is not this job's, but what it builds on
        begun, finished = None if begun == finished else begun, None
    for tree, where in ((finished, job.output), (begun, run.path)):
        if tree is not None:
            require_same(tree, current_fingerprint(job, preflight, numerics_of(tree)), str(where))
    return finished is not None


def absolute(path: Path) -> Path:
    """The path from the root on, links kept."""
    return Path(os.path.abspath(path))


def dataset_files(arguments: Sequence[str]) -> tuple[Path, ...]:
    """The files that the command line names, in its order; those of a pattern as people count: part-2 before part-10.

    A pattern leaves out *.predictions.h5, so that the second run of a command does not find the result of the first.
    Raises DataError where a pattern matches nothing, UsageError where a file is named twice.
    """
    found: list[Path] = []
    for argument in arguments:
        if Path(argument).exists() or not has_magic(argument):
            found.append(absolute(Path(argument)))
            continue
        matches = sorted((path for path in glob(argument) if not path.endswith(RESULT_SUFFIX)), key=_counted)
        if not matches:
            raise DataError(
                f"no file matches {argument}", "check the pattern; relative ones start at the current folder"
            )
        found += [absolute(Path(match)) for match in matches]
    twice = [str(path) for path, times in Counter(found).items() if times > 1]
    if twice:
        raise UsageError(f"named more than once: {', '.join(twice[:3])}", "name every file of the dataset once")
    return tuple(found)


def _counted(name: str) -> list[tuple[int, int, str]]:
    """Sorts text as text and the numbers within it as numbers."""
    parts = re.split(r"([0-9]+)", name)
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts if part]
