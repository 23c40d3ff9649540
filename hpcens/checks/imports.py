"""Imports: what the code of members and of a rule turned out to import, put beside what is digested without it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from hpcens.checks.findings import Preflight
from hpcens.checks.trials import Trial, TrialBook, is_found, member_key, rule_key
from hpcens.combining import rule_modules
from hpcens.members import COMPLEX, STATE, has_code, own_modules
from hpcens.result import earlier_tree
from hpcens.specs import Job, MemberSpec, RunSpec
from hpcens.usercode.imported import digested_again, is_of_imports

RULE = "/rule"
"""Stands for the rule among the names of members, none of which has a slash."""


def with_imports(job: Job, preflight: Preflight, book: TrialBook) -> Preflight:
    """Add the digests of what their code imports, as far as an earlier result or an earlier trial tells it.

    Imports none of it. `unseen` names the others.
    """
    spec, earlier = job.spec, earlier_tree(job.output)
    trials = {
        member.name: book.get(member_key(member, spec, preflight), spec.search_path)
        for member in spec.members
        if has_code(member) or preflight.rule
    }
    digests, unseen = dict(preflight.digests), []
    for member in filter(has_code, spec.members):
        imports = _of_earlier(earlier.get("members", {}).get(member.name, {}), digests[member.name], spec)
        if imports is None and (trial := trials[member.name]) is not None:
            imports = trial.imported.digests(own_modules(member, digests[member.name]))
            imports |= {STATE: trial.state} if member.loads_itself or member.front.loads_itself else {}
            imports |= {COMPLEX: "kept"} if trial.complex else {}
        if imports is None:
            unseen.append(member.name)
        digests[member.name] = {**digests[member.name], **(imports or {})}
    rule = dict(preflight.rule)
    if rule:
        imports = _of_earlier(earlier.get("rule", {}).get("digests", {}), rule, spec)
        if imports is None and (trial := _rule_trial(spec, preflight, trials, book)) is not None:
            imports = trial.imported.digests(rule_modules(spec, rule))
        if imports is None:
            unseen.append(RULE)
        rule |= imports or {}
    return replace(preflight, digests=digests, rule=rule, unseen=tuple(unseen))


def _of_earlier(branch: Mapping[str, Any], digests: Mapping[str, str], spec: RunSpec) -> dict[str, str] | None:
    """Return the imports that an earlier result names, where it was made of the same, and they are what they were.

    None where it names none: a result of earlier code did not look. With them comes that it has complex numbers.
    """
    found = {key: digest for key, digest in branch.items() if is_found(key)}
    imports = {key: digest for key, digest in found.items() if is_of_imports(key)}
    same = found and all(branch.get(key) == digest for key, digest in digests.items())
    return found if same and digested_again(imports, spec.search_path) == imports else None


def _rule_trial(
    spec: RunSpec, preflight: Preflight, trials: Mapping[str, Trial | None], book: TrialBook
) -> Trial | None:
    shape = next((trial.shape for trial in trials.values() if trial is not None), None)
    return None if shape is None else book.get(rule_key(spec, preflight, shape), spec.search_path)


def untried(job: Job, preflight: Preflight) -> list[MemberSpec]:
    """Return the members to try for what is not known: those themselves, and one at least for the rule's sake."""
    members = job.spec.members
    return [member for member in members if member.name in preflight.unseen] or list(members[:1])
