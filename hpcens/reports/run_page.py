"""One page of a run: what it scored, how fast, where the time went, its values, and what all of it was made of."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpcens.errors import COMPLETE, INCOMPLETE, HpcensError
from hpcens.files import read_as
from hpcens.reports.ending import ending_lines, times_of
from hpcens.reports.html import matrix_figure, memory_figure
from hpcens.reports.limits import device_loads
from hpcens.reports.page import figure, folded, page, paragraphs, table
from hpcens.reports.run_charts import instances_figure, ranks_figure, read_trace, speed_figure, values_figures
from hpcens.reports.svg import words
from hpcens.reports.text import figures
from hpcens.reports.values import Sample, sample
from hpcens.result import Finished
from hpcens.runs import Claim, Epoch, Report, RunDirectory, read_events
from hpcens.vocabulary import Plan

_DIGITS = 12


@dataclass(frozen=True, slots=True)
class Made:
    """What a result says of itself.

    attributes  of the file
    config      the configuration, as JSON
    values      some of its rows
    """

    attributes: Mapping[str, Any]
    config: str
    values: Sample


def draw_run(run: RunDirectory, output: Path) -> str:
    """Return the page of a run's newest start, and of its result where it is complete.

    output  the result
    """
    epoch = run.newest
    made = _made(output)
    parts = [f"<h1>{words(output.name)}</h1>"]
    if epoch is not None:
        parts += [_state(epoch), paragraphs(ending_lines(run, output))]
        parts += _start_parts(epoch)
    if made is not None and made.values.read:
        parts += values_figures(made.values)
    parts.append(_provenance(run, output, made, Plan.kept(epoch.plan) if epoch else None))
    return page(f"{output.name}: report", filter(None, parts))


def _made(output: Path) -> Made | None:
    """Return what a result says of itself; None where there is none, or it is damaged."""
    try:
        result = Finished(output)
        try:
            return Made(result.attributes, _document(result, "config"), sample(result))
        finally:
            result.close()
    except (HpcensError, OSError):
        return None


def _document(result: Finished, name: str) -> str:
    """Return a text that a result keeps; empty where it has none."""
    try:
        return result.document(name)
    except KeyError:
        return ""


def _state(epoch: Epoch) -> str:
    verdict = epoch.verdict
    if verdict is None:
        return '<p><span class="state going">not ended</span></p>'
    names = {COMPLETE: ("state", "complete"), INCOMPLETE: ("state going", "incomplete, can be continued")}
    kind, name = names.get(verdict.code, ("state ended", f"failed ({verdict.code})"))
    return f'<p><span class="{kind}">{words(name)}</span> {words(verdict.reason)}</p>'


def _start_parts(epoch: Epoch) -> Iterator[str]:
    """Draw what a start planned and did, as far as it has come."""
    plan, report, claim = Plan.kept(epoch.plan), Report.load(epoch.report), Claim.load(epoch.claim)
    events = [event for _, event in read_events(epoch.events)]
    if plan is not None:
        yield matrix_figure(plan)
    if report is not None and claim is not None and times_of(claim.began, events, report) is not None:
        yield ranks_figure(claim.began, events, report, read_trace(_trace_of(epoch), claim.began))
    yield speed_figure(events, plan.throughput if plan is not None else None)
    if report is not None:
        yield instances_figure(report)
    if plan is not None:
        yield memory_figure(plan, _measured_memory(plan, report))


def _trace_of(epoch: Epoch) -> Path | None:
    named = read_as(epoch.job, lambda order: json.loads(order["job"]).get("trace"))
    return Path(named) if named else None


def _measured_memory(plan: Plan, report: Report | None) -> dict[str, int]:
    """Return device → bytes of its memory that were in use at most, as far as it is known."""
    own = {device.name for device in plan.devices}
    loads = device_loads(report.ranks) if report else []
    return {load.name: load.peak for load in loads if load.peak and load.name in own}


def _provenance(run: RunDirectory, output: Path, made: Made | None, plan: Plan | None) -> str:
    """Return what the result was made of: data, members by digest, rule, versions, and the configuration."""
    rows: list[tuple[str, str]] = [("result", str(output)), ("run directory", str(run.path))]
    tree = run.fixed_fingerprint
    details = ""
    if made is not None:
        told = made.attributes
        tree = json.loads(told["fingerprint"])
        rows += [("dataset", str(name)) for name in told.get("datasets", ())]
        rows.append(("task", str(told.get("task") or "not stated")))
        rows.append(("rule", f"{told.get('rule', 'unknown')}, in {told.get('space', 'unknown')}"))
        rows += _calibration_rows(json.loads(told.get("calibration", "{}")))
        versions = (f"{name} {told[name]}" for name in ("hpcens", "python", "torch", "numpy", "h5py") if name in told)
        rows += [("versions", ", ".join(versions)), ("MPI", str(told.get("mpi") or "none"))]
        rows += [("warning", str(warning)) for warning in json.loads(told.get("warnings", "[]"))]
        details = _members_table(json.loads(told.get("members", "{}")), json.loads(told.get("precision", "{}")), plan)
        if made.config:
            details += folded("the configuration, with all defaults", _indented(made.config))
    if tree is not None:
        digest = hashlib.sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest()
        rows.append(("fingerprint", digest[:_DIGITS]))
        details += folded("the fingerprint: digests of all that decides the numbers", json.dumps(tree, indent=1))
    caption = (
        "What the numbers were made of. A result holds all of this itself; hpcens verify holds the file and the members"
        " against it."
    )
    return figure("Provenance", caption, table(("", ""), rows), details)


def _calibration_rows(calibration: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return what was applied to what the rule gives; nothing where there is no calibration."""
    if not calibration:
        return []
    temperature, coverage = calibration["temperature"], calibration["coverage"]
    applied = [f"temperature {temperature:.6g}"] if temperature is not None else []
    applied += [f"coverage {100 * coverage:.6g} %"] if coverage is not None else []
    digest = calibration["digest"][:_DIGITS]
    return [("calibration", f"{', '.join(applied)}; fitted on {calibration['n']:,} rows; digest {digest}")]


def _indented(text: str) -> str:
    try:
        return json.dumps(json.loads(text), indent=1, ensure_ascii=False)
    except ValueError:
        return text


def _members_table(members: Mapping[str, Any], precisions: Mapping[str, str], plan: Plan | None) -> str:
    heads = ["member", "file", "digest of the weights", "precision", "runtime", "batch size", "differs from eager by"]
    seen = {name: [value for key, value in of.items() if key.startswith("views[")] for name, of in members.items()}
    heads += ["mean of views"] if any(seen.values()) else []
    rows = []
    for name, of_member in members.items():
        how = plan.numerics.members.get(name) if plan is not None else None
        apart = plan.differences.get(name) if plan is not None else None
        rows.append(
            (
                name,
                of_member.get("path", ""),
                str(of_member.get("weights", ""))[:_DIGITS],
                precisions.get(name, ""),
                how.runtime if how else "",
                how.batch if how else "",
                "" if apart is None else figures(apart),
                *([", ".join(seen[name])] if any(seen.values()) else []),
            )
        )
    return table(heads, rows)
