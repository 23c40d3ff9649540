"""What is asked of stored members: another rule or other outputs; checked before the first row is read."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hpcens.combining.digests import rule_digests, rule_modules
from hpcens.combining.rule_process import try_rule
from hpcens.config import spec_from_json
from hpcens.config.document import Page, compose
from hpcens.config.partial import over
from hpcens.errors import DataError, FingerprintMismatch, MemberError, UsageError
from hpcens.members import layout_digests, member_digests, passes_digest
from hpcens.result import (
    PASS_ENTROPY,
    PRESENT,
    Finished,
    check_output,
    differences,
    in_format,
    keeps_classes,
    outputs_branch,
    require_fitting,
    rounded_members,
    rule_branch,
)
from hpcens.rules import combining_space
from hpcens.rules.present import sets_of
from hpcens.shell import option
from hpcens.specs import NOT_OF, MemberSpec, RunSpec, Space, described_rows
from hpcens.usercode.imported import digested_again, is_of_imports
from hpcens.vocabulary import Array


@dataclass(frozen=True, slots=True)
class Request:
    """Members of a result that are to be combined again.

    source       the result whose members are stored
    spec         rule, outputs, compression, and which of its members in which order
    output       the result to make
    space        in which the rule combines
    digests      of the rule's code and weights
    fingerprint  of the result to make
    """

    source: Finished
    spec: RunSpec
    output: Path
    space: Space
    digests: Mapping[str, str]
    fingerprint: dict[str, Any]

    @property
    def datasets(self) -> tuple[str, ...]:
        """Names of the stored datasets of the members, in member order."""
        return tuple(f"members/{member}" for member in self.spec.member_names)

    @property
    def pass_entropies(self) -> dict[str, str]:
        """Member → the stored dataset of the entropies of its passes; of those that carry them."""
        stored = {output.name for output in self.source.outputs}
        named = {member: f"{PASS_ENTROPY}{member}" for member in self.spec.member_names}
        return {member: name for member, name in named.items() if name in stored}

    def present(self, segment: int) -> Array:
        """Return (rows of the segment, members) bool: whether the member has scored the row."""
        return present_in(self.source, self.spec, segment)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of a member's output for one row."""
        return self.source.output(self.datasets[0]).shape

    @property
    def class_axis(self) -> int | None:
        """Axis of the classes in the members' outputs, as they are stored."""
        return self.source.output(self.datasets[0]).class_axis


def check_request(source: Finished, spec: RunSpec, output: Path) -> Request:
    """Check what is asked.

    source  the result whose members are stored
    spec    rule, outputs, compression, and which of its members in which order
    output  the result to make
    Raises UsageError where members are not stored, or not in full, or in another space.
    """
    source.require_all_rows("combine")
    if spec.output.keep is not None:
        raise UsageError("combine stores all rows, and the YAML has output.keep", "leave it out, or run under it")
    check_output(output, spec.output.compression, source.path)
    _require_stored(source, spec)
    space = combining_space(spec.rule, spec.members, spec.task)
    stored = source.fingerprint["rule"]["space"]
    if space != stored:
        raise UsageError(
            f"{source.path} stores its members as {stored}; rule {spec.rule.name} is to combine {space}",
            f"rule.space: {stored}; or score again under the other space",
        )
    digests = rule_digests(spec, space)
    sets = _sets_of(source, spec)
    if digests:
        shape = source.output(f"members/{spec.member_names[0]}").shape
        digests |= try_rule(spec, space, digests, shape, sets=sets).digests(rule_modules(spec, digests))
    fingerprint = in_format(
        {
            **source.fingerprint,
            "members": {name: source.fingerprint["members"][name] for name in spec.member_names},
            "rule": rule_branch(spec, digests, space),
            "outputs": outputs_branch(spec),
        }
    )
    _require_same_cascade(source, spec, fingerprint)
    require_fitting(spec, fingerprint)
    return Request(source, spec, output, space, digests, fingerprint)


def _require_same_cascade(source: Finished, spec: RunSpec, fingerprint: Mapping[str, Any]) -> None:
    """Raise UsageError where rows would be combined otherwise than when it was decided who scores them."""
    before, now = (in_format({"rule": tree["rule"]})["rule"] for tree in (source.fingerprint, fingerprint))
    if before.get("cascade") == now.get("cascade") is None:
        return
    decided, asked = ({key: rule[key] for key in rule if key != "calibration"} for rule in (before, now))
    if decided != asked or len(spec.members) < len(source.fingerprint["members"]):
        lines = [*differences(decided, asked, "rule")] or ["members: fewer now"]
        raise UsageError(
            f"{source.path} was scored by a cascade, which accepted rows under its rule and all its members; asked is"
            " another:\n  " + "\n  ".join(lines),
            "combine it under the same rule and cascade, for other outputs; or score again under the new ones",
        )


def present_in(source: Finished, spec: RunSpec, segment: int) -> Array:
    """Return (rows of the segment, members of the spec) bool: whether the member has scored the row."""
    stored = [str(name) for name in source.attributes["member_names"]]
    present: Array = source.read(segment, (PRESENT,))[PRESENT] != 0
    return present[:, [stored.index(name) for name in spec.member_names]]


def _sets_of(source: Finished, spec: RunSpec) -> list[tuple[str, ...]]:
    """Return the sets of members that rows have, where not all members have scored all rows.

    Raises DataError where some row has none, and such rows are not to be masked.
    """
    sets: dict[tuple[int, ...], None] = {}
    for segment in range(len(source.segmentation)) if spec.partial else ():
        present = present_in(source, spec, segment)
        sets |= {members: None for members, _ in sets_of(present)}
        nobody = sorted({*np.flatnonzero(~present.any(1)).tolist()} - {*source.masked(segment)})
        if nobody and spec.bad_rows == "fail":
            start, _ = source.segmentation.bounds(segment)
            raise DataError(
                f"{source.path}: none of {', '.join(spec.member_names)} has scored row {start + nobody[0]}",
                "name members that together have scored every row; or have such rows masked: bad_rows: mask",
            )
    return [tuple(spec.member_names[place] for place in members) for members in sets]


def under_rule(source: Finished, name: str, search_path: Path) -> RunSpec:
    """Take the configuration a result was made with, but for its rule: one without parameters, or trimmed:SHARE.

    search_path  where a function is imported from
    """
    spec = spec_from_json(source.document("config"))
    if name in ("weighted", "trimmed", "stack"):
        example = f"{option('rule', 'trimmed:0.2')}, or " * (name == "trimmed")
        raise UsageError(f"rule {name} takes parameters", f"{example}give them in a YAML: {option('config')}")
    rule: dict[str, Any] = {"name": name, "space": source.fingerprint["rule"]["space"]}
    trim = name.removeprefix("trimmed:")
    if trim != name:
        try:
            rule |= {"name": "trimmed", "trim": float(trim)}
        except ValueError:
            raise UsageError(
                f"{option('rule', name)}: {trim} is no number", f"for example {option('rule', 'trimmed:0.2')}"
            ) from None
    page = Page(Path(option("rule")), numbered=False)
    return over(page, compose(page, json.dumps({"rule": rule})), spec, search_path)


def require_same_members(source: Finished, spec: RunSpec) -> None:
    """Compare members with those stored, as far as their files are there to be looked at.

    Raises FingerprintMismatch where they differ.
    """
    before: Mapping[str, Any] = source.fingerprint["members"]
    lines: list[str] = [*_other_rows(spec_from_json(source.document("config")), spec)]
    thens: dict[str, Any] = {}
    nows: dict[str, Any] = {}
    for member in (member for member in spec.members if member.name in before):
        stored = before[member.name]
        now: dict[str, Any] = {"output": member.output, **layout_digests(member, spec), **passes_digest(member)}
        compared = {"output", "class_axis", "task", "passes"}
        precision = stored["numerics"]["precision"]
        if "float64" in (precision, member.computes_in) and precision != member.computes_in:
            lines.append(f"members.{member.name}.precision: {precision} then, {member.computes_in} now")
        with contextlib.suppress(MemberError):  # the network may be gone: it is not needed
            now |= member_digests(member, spec.search_path)
            compared |= {*now, *stored} - {"numerics", "rows"} - {*filter(is_of_imports, stored)}
        now |= digested_again(stored, spec.search_path)
        compared |= now.keys()
        then = {key: value for key, value in stored.items() if key in compared}
        thens[member.name], nows[member.name] = then, now
    lines += differences(thens, nows, "members")
    if not keeps_classes(source.fingerprint, {"outputs": outputs_branch(spec)}):
        lines.append(
            f"classes: {', '.join(source.classes)} then, {', '.join(spec.classes or ())} now;"
            " members' own classes were brought to them"
        )
    if lines:
        raise FingerprintMismatch(
            f"{source.path} holds other members than the configuration names:\n  " + "\n  ".join(lines),
            "give the configuration it was made with, but for rule and output, or score again",
        )


def _other_rows(then: RunSpec, now: RunSpec) -> Iterator[str]:
    """Yield a line for each member that is to have scored other rows: which they are, the dataset alone tells."""
    before = {member.name: _rows_in_words(then, member) for member in then.members}
    for member in now.members:
        wanted = _rows_in_words(now, member)
        if before.get(member.name, wanted) != wanted:
            yield f"members.{member.name}.rows: {before[member.name]} then, {wanted} now"


def _rows_in_words(spec: RunSpec, member: MemberSpec) -> str:
    if member.rows is None:
        return "all"
    routes = (key.removeprefix(NOT_OF) for key in member.rows)
    paths = ", ".join(f"{route} {spec.dataset.route[route]}" for route in routes if route in spec.dataset.route)
    return described_rows(member.rows) + (f" ({paths})" if paths else "")


def _require_stored(source: Finished, spec: RunSpec) -> None:
    before = source.fingerprint["members"]
    if missing := [name for name in spec.member_names if name not in before]:
        raise UsageError(
            f"{source.path} has no member {', '.join(missing)}; it has {', '.join(before)}",
            "name members it has, or score the others: hpcens submit",
        )
    if "members" not in source.fingerprint["outputs"]["datasets"]:
        raise UsageError(
            f"{source.path} does not hold its members' outputs", "score again with members among output.datasets"
        )
    if rounded := rounded_members(source.fingerprint, spec.member_names):
        raise UsageError(
            f"{source.path} holds its members' outputs as {source.fingerprint['outputs']['dtype']}, rounded from what"
            f" {', '.join(rounded)} gave",
            "only float32, of members of precision float64 only float64, is combined again: score again with that"
            " output.dtype",
        )
