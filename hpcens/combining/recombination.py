"""Recombination: a result's stored members under another rule, or for other outputs; no network runs.

Written as a run writes: epoch, journal, read back, renamed when it is whole. The same command again continues it,
and the bytes are those that a run under the other rule would have written.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from hpcens.combining.combiner import Combiner
from hpcens.combining.masking import told
from hpcens.combining.rule_code import rule_digests
from hpcens.config import spec_from_json, spec_to_json
from hpcens.errors import COMPLETE, INCOMPLETE, DataError, FingerprintMismatch, MemberError, UsageError, as_verdict
from hpcens.files import write_atomically
from hpcens.members import member_digests
from hpcens.result.description import description
from hpcens.result.destination import check_output
from hpcens.result.earlier import is_finished
from hpcens.result.fingerprint import differences, outputs_branch, rule_branch
from hpcens.result.finished import Finished
from hpcens.result.form import Form
from hpcens.result.outputs import Output, outputs_of
from hpcens.result.result import Result
from hpcens.rules import combining_space
from hpcens.runs import Epoch, Events, ProgressMade, RunDirectory, Verdict
from hpcens.specs import RuleSpec, RunSpec

_GROUP = 16


def under_rule(source: Finished, name: str, search_path: Path) -> RunSpec:
    """The configuration the result was made with, but for its rule: one without parameters.

    search_path  where a function is imported from
    """
    spec = spec_from_json(source.document("config"))
    if name in ("weighted", "trimmed", "stack"):
        raise UsageError(f"rule {name} takes parameters", "give them in a YAML: --config")
    members = tuple(replace(member, weight=None) for member in spec.members)
    rule = RuleSpec(name=name, space=source.fingerprint["rule"]["space"])
    return replace(spec, members=members, rule=rule, search_path=search_path if ":" in name else spec.search_path)


class Recombination:
    """Everything checked before the first row is read.

    source  the result whose members are stored
    spec    rule, outputs, compression, and which of its members in which order
    Raises UsageError: members not stored, or not in full, another space; FingerprintMismatch: other members.
    """

    def __init__(self, source: Finished, spec: RunSpec, output: Path) -> None:
        self._source = source
        self._spec = spec
        self._output = output
        self._names = {f"members/{member}": None for member in spec.member_names}
        check_output(output, spec.output.compression, source.path)
        _require_stored(source, spec)
        self._space = combining_space(spec.rule, spec.members)
        stored = source.fingerprint["rule"]["space"]
        if self._space != stored:
            raise UsageError(
                f"{source.path} stores its members as {stored}; rule {spec.rule.name} is to combine {self._space}",
                f"rule.space: {stored}; or score again under the other space",
            )
        self._shape = source.output(next(iter(self._names))).shape
        self._digests = rule_digests(spec, self._space)
        self.tree: dict[str, Any] = {
            **source.fingerprint,
            "members": {name: source.fingerprint["members"][name] for name in spec.member_names},
            "rule": rule_branch(spec, self._digests, self._space),
            "outputs": outputs_branch(spec),
        }

    def stands(self) -> bool:
        """Return whether the output is there already. Raises FingerprintMismatch where it is made of something else."""
        return is_finished(self._output, lambda numerics: json.loads(json.dumps(self.tree)))

    def write(self) -> Verdict:
        """Combine every segment that is missing."""
        if broken := self._source.broken_columns:
            raise DataError(f"{self._source.path}: {', '.join(broken)} is not what was written", "the file is damaged")
        run = RunDirectory.of(self._output)
        run.path.mkdir(exist_ok=True)
        epoch = run.begin()
        try:
            write_atomically(run.fingerprint, json.dumps(self.tree, indent=1))
            with contextlib.closing(Events(epoch.events)) as events:
                self._make(run, epoch, events)
        except KeyboardInterrupt:
            epoch.judge(Verdict(INCOMPLETE, "interrupted", "run the same command again to continue"))
            raise
        except BaseException as error:
            known = as_verdict(error)
            epoch.judge(Verdict(known.exit_code, known.what, known.remedy))
            raise
        rows = self._source.segmentation.rows
        return epoch.judge(Verdict(COMPLETE, f"{rows} rows combined under rule {self._spec.rule.name}"))

    def _make(self, run: RunDirectory, epoch: Epoch, events: Events) -> None:
        combiner = Combiner(self._spec, self._space, self._outputs(), self._digests)
        combiner.try_out(self._shape)
        result = Result.open(run, epoch, self._form())
        while result.missing or result.revoke_damaged():
            self._combine(combiner, result, events)
        result.finish(self._output, {"rows": self._source.segmentation.rows, "finished": time.time()})
        result.close()

    def _combine(self, combiner: Combiner, result: Result, events: Events) -> None:
        missing = result.missing
        segmentation = self._source.segmentation
        done = segmentation.rows - sum(map(segmentation.size, missing))
        for first in range(0, len(missing), _GROUP):
            group = missing[first : first + _GROUP]
            for segment in group:
                stored = self._source.read(segment, self._names)
                masked = self._masked(segment)
                result.write(segment, combiner.combine(segment, [stored[name] for name in self._names], masked), {})
            result.flush(group)
            done += sum(map(segmentation.size, group))
            events.add(ProgressMade(done, segmentation.rows))

    def _masked(self, segment: int) -> list[int]:
        """Places within the segment of rows that the source has masked."""
        masked = self._source.masked(segment)
        if masked and self._spec.bad_rows == "fail":
            start, _ = self._source.segmentation.bounds(segment)
            raise DataError(
                f"{self._source.path} has masked {told(start + row for row in masked)}",
                "write bad_rows: mask in the YAML",
            )
        return masked

    def _outputs(self) -> tuple[Output, ...]:
        return outputs_of(self._spec, self._shape, self._space)

    def _form(self) -> Form:
        source = self._source
        origin = {
            "path": str(source.path),
            "fingerprint": hashlib.sha256(json.dumps(source.fingerprint, sort_keys=True).encode()).hexdigest(),
        }
        attributes = description(
            self._spec,
            self.tree,
            members=json.loads(source.attributes["members"]),
            datasets=[Path(name) for name in source.attributes["datasets"]],
            library="",
            combined_from=json.dumps(origin),
        )
        return Form(
            outputs=self._outputs(),
            segmentation=source.segmentation,
            attributes=attributes,
            classes=self._spec.classes or (),
            documents={"plan": source.document("plan"), "config": spec_to_json(self._spec)},
            compression=self._spec.output.compression,
            columns=source.copy_columns,
        )


def require_same_members(source: Finished, spec: RunSpec) -> None:
    """Raises FingerprintMismatch where members are not those stored, as far as they are there to be looked at."""
    before: Mapping[str, Any] = source.fingerprint["members"]
    lines: list[str] = []
    for member in (member for member in spec.members if member.name in before):
        now: dict[str, Any] = {"output": member.output}
        with contextlib.suppress(MemberError):  # the network may be gone: it is not needed
            now |= member_digests(member, spec.search_path)
        then = {key: before[member.name].get(key) for key in now}
        lines += differences(then, now, f"members.{member.name}")
    if lines:
        raise FingerprintMismatch(
            f"{source.path} holds other members than the configuration names:\n  " + "\n  ".join(lines),
            "give the configuration it was made with, but for rule and output, or score again",
        )


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
    if (dtype := source.fingerprint["outputs"]["dtype"]) != "float32":
        raise UsageError(f"{source.path} holds its members' outputs as {dtype}", "only float32 is combined again")
