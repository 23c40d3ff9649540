"""Tell how a run ended: what was asked for first, then how fast it was, then what limited it; the rest where wanted."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import isfinite
from pathlib import Path

from hpcens.errors import COMPLETE, HpcensError
from hpcens.files import read_as
from hpcens.planning.nodes import spell
from hpcens.reports.limits import device_lines, limit_sentence
from hpcens.reports.plans import plan_lines, work_line
from hpcens.reports.stages import reached_lines
from hpcens.reports.text import (
    amount,
    broken_lines,
    cost_line,
    figures,
    rate,
    report_lines,
    spot_check_lines,
    start_lines,
)
from hpcens.reports.values import sample as sample_of
from hpcens.reports.values import value_lines
from hpcens.result import Finished
from hpcens.runs import (
    Claim,
    Epoch,
    Event,
    ProfilingBegan,
    ProfilingEnded,
    ProgressMade,
    Report,
    RunDirectory,
    read_events,
)
from hpcens.runs.cost import cost_of, cost_of_run
from hpcens.vocabulary import Plan

# Where even the busiest role was busy for less of the time, none of them is what limits the speed.
_BUSY = 60
_TELLING_SECONDS = 5  # of scoring: in less, the first and the last batch weigh too much
_BOTTLENECKS = {
    "device": ("the devices", "computed", "more or faster devices would help"),
    "reader": ("reading the dataset", "took", "a faster file system would help"),
    "reducer": ("combining and writing the result", "took", "fewer or smaller outputs would help"),
}


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds of one start of a run.

    whole      from its beginning to its last event
    ready      until its first batch
    profiling  of those, to measure members
    scoring    from the first batch until the last row was durable
    """

    whole: float
    ready: float
    profiling: float
    scoring: float


def output_of(run: RunDirectory) -> Path:
    """Return where the run's result is, or will be: beside the run directory, wherever both were copied to."""
    name = "" if run.newest is None else _ordered_name(run.newest)
    return run.path.parent / name if name else run.path.with_suffix(".h5")


def _ordered_name(epoch: Epoch) -> str:
    return read_as(epoch.job, lambda order: Path(json.loads(order["job"])["output"]).name) or ""


def times_of(began: float, events: list[Event], report: Report) -> Times | None:
    """Return what a start's time went into; None where it came to no batch.

    began   seconds since 1970 at which the start began
    events  of the start, in their order
    """
    first = next((event.time for event in events if isinstance(event, ProgressMade)), None)
    if first is None:
        return None
    moments = {type(event): event.time for event in events}
    profiling = moments.get(ProfilingEnded, 0.0) - moments.get(ProfilingBegan, moments.get(ProfilingEnded, 0.0))
    seconds = events[-1].time - began, first - began, max(0.0, profiling), report.seconds
    return Times(*seconds) if all(map(isfinite, seconds)) else None  # the files may be damaged


def ending_lines(run: RunDirectory, output: Path, *, verbose: bool = False) -> Iterator[str]:
    """Show how a run ended.

    output   its result, as people are to read its path
    verbose  show the plan, every instance and every rank too
    """
    epoch = run.newest
    if epoch is None:
        return
    claim, report = Claim.load(epoch.claim), Report.load(epoch.report)
    events = [event for _, event in read_events(epoch.events)]
    times = times_of(claim.began, events, report) if claim and report else None
    verdict = epoch.verdict
    yield from _rows_lines(epoch, events, report, times, output if verdict and verdict.code == COMPLETE else None)
    if verdict is not None and verdict.code == COMPLETE:
        yield from _result_lines(output)
    if report is not None and report.rows:
        yield speed_line(report)
        if times is not None:
            yield time_line(times)
        plan = Plan.kept(epoch.plan)
        if sentence := (limit_sentence(plan, report.ranks) if plan else "") or bottleneck_sentence(report):
            yield sentence
    if report is not None:
        yield from broken_lines(report.broken, report.taken)
    yield from (f"warning: {warning}" for warning in epoch.warnings)
    if verbose:
        yield from _detail_lines(run, epoch, claim, events, report)
    else:
        yield from _number_lines(epoch, report)


def _number_lines(epoch: Epoch, report: Report | None) -> Iterator[str]:
    """Say what concerns the numbers themselves: what the plan remarks, and how far runtimes were from eager."""
    if (plan := Plan.kept(epoch.plan)) is not None:
        if plan.parts and not plan.expected:
            yield work_line(plan)
        yield from reached_lines(plan, report)
        yield from plan.remark.splitlines()
    if report is not None:
        yield from spot_check_lines(report)


def _rows_lines(
    epoch: Epoch, events: list[Event], report: Report | None, times: Times | None, output: Path | None
) -> Iterator[str]:
    """Show how many rows there are, and how many of them this start scored; where they lie, if they are complete."""
    progress = next((event for event in reversed(events) if isinstance(event, ProgressMade)), None)
    if progress is None:
        return
    durable, total = progress.rows_passed, progress.of * progress.phases
    size = f" ({amount(output.stat().st_size)})" if output is not None and output.exists() else ""
    where = f" → {output}{size}" if output is not None else ""
    took = f" in {spell(times.whole)}" if times is not None else ""
    if output is not None and (report is None or report.rows >= progress.of):
        yield f"{progress.of:,} rows{took}{where}"
        return
    phase = f" in phase {progress.phase} of {progress.phases}" if progress.phases > 1 else ""
    rows, share = f"{progress.of:,} rows", ""
    scored = f"; start {epoch.number} scored {report.rows:,}" if report is not None and report.rows else ""
    if durable < total:
        rows = f"{progress.rows:,} of {rows} are durable{phase}"
        before = next(event for event in events if isinstance(event, ProgressMade)).rows_passed
        saved = "" if progress.phases > 1 else f", of which {max(0, durable - before):,} are saved"
        share = scored and f"{scored}{took}{saved}"
    elif scored:
        share = f"{scored} of them{took}"
    yield f"{rows}{where}{share}"


def _result_lines(output: Path) -> Iterator[str]:
    """Show labels, values and agreement; where they cannot be read, why."""
    try:
        result = Finished(output)
        try:
            if (kept := result.kept) is not None:
                yield f"kept: {result.segmentation.rows:,} of {int(kept['of']):,} rows, {kept['what']}"
            yield from value_lines(sample_of(result))
            yield from _passes_lines(json.loads(result.attributes.get("passes", "{}")))
        finally:
            result.close()
    except (HpcensError, OSError) as error:
        yield f"values are not shown: {error}"


def _passes_lines(passes: Mapping[str, Mapping[str, int]]) -> Iterator[str]:
    """Say which members are means over passes. passes: member → its `count` and `seed`."""
    members: dict[int, list[str]] = {}
    for member, how in passes.items():
        members.setdefault(how["count"], []).append(member)
    phrases = [f"{count} a row of {', '.join(names)}" for count, names in members.items()]
    if phrases:
        yield f"passes: {'; '.join(phrases)}"


def speed_line(report: Report) -> str:
    """Write rows/s beside those predicted: both of scoring alone, where it took long enough to tell."""
    measured, predicted = report.rows_per_second, report.predicted_rows_per_second
    beside = f", {100 * measured / predicted:.0f} % of the {figures(predicted)} predicted" if predicted else ""
    if predicted and report.rows < measured * _TELLING_SECONDS:
        beside = f", too short a time to compare with the {figures(predicted)} predicted"
    return f"speed: {rate(measured)} while scoring{beside}"


def time_line(times: Times) -> str:
    """Write what the time went into: start, scoring, and reading back."""
    profiled = f" ({spell(times.profiling)} of it to measure members, kept for later)" if times.profiling else ""
    rest = times.whole - times.ready - times.scoring
    last = f", {spell(rest)} to read back and finish" if rest >= 0.05 else ""
    return f"time: {spell(times.ready)} until the first batch{profiled}, {spell(times.scoring)} of scoring{last}"


def bottleneck_sentence(report: Report) -> str:
    """Say in a sentence what limited the speed; empty where that is not known."""
    role, _, rest = report.bottleneck.partition(": busy ")
    share = rest.split(" ")[0]
    if role not in _BOTTLENECKS or not share.isdecimal():
        return ""
    what, did, remedy = _BOTTLENECKS[role]
    if int(share) < _BUSY:
        return f"bottleneck: none; even {what}, busiest of all, {did} only {share} % of the time, the rest was waiting"
    return f"bottleneck: {what}, which {did} {share} % of the time; {remedy}"


def _detail_lines(
    run: RunDirectory, epoch: Epoch, claim: Claim | None, events: list[Event], report: Report | None
) -> Iterator[str]:
    if (plan := Plan.kept(epoch.plan)) is not None:
        yield "plan:"
        yield from plan_lines(plan)
    if claim is not None:
        yield from start_lines(claim.began, events)
    if report is not None:
        yield from report_lines(report)
    if plan is not None and report is not None and (lines := list(device_lines(plan, report.ranks))):
        yield "  devices: what share of the scoring time went into what, and the memory in use"
        yield from (f"  {line}" for line in lines)
    yield cost_line(cost_of([epoch]), cost_of_run(run))
