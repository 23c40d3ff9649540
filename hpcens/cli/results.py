"""Verbs that need no ranks: verify, combine, export, simulate, init; and how one that has run concludes."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from hpcens.errors import COMPLETE, FAILURE, UsageError

if TYPE_CHECKING:
    from argparse import Namespace

    from hpcens.runs.directory import Verdict
    from hpcens.specs import Job


def verify(options: Namespace) -> int:
    from dataclasses import asdict

    from hpcens.reports.text import verification_lines
    from hpcens.result.verify import verify

    found = verify(options.result)
    if options.json:
        print(json.dumps(asdict(found) | {"sound": found.sound}, indent=1))
    else:
        show(verification_lines(found))
        print(
            "sound"
            if found.sound
            else f"not sound: {len(found.faults)} faults; next: score it again into another output"
        )
    return COMPLETE if found.sound else FAILURE


def combine(options: Namespace) -> int:
    from hpcens.checks.preflight import absolute
    from hpcens.combining.recombination import Recombination, require_same_members, under_rule
    from hpcens.config import load
    from hpcens.result.finished import Finished

    source = Finished(absolute(options.result))
    if options.config:
        spec = load(options.config)
        require_same_members(source, spec)
    else:
        spec = under_rule(source, options.rule, Path.cwd())
    output = absolute(options.output)
    recombination = Recombination(source, spec, output)
    if recombination.stands():
        print(f"{short(output)} is complete already; next: hpcens verify {short(output)}")
        return COMPLETE
    verdict = recombination.write()
    print(f"complete: {verdict.reason} → {short(output)}; next: hpcens verify {short(output)}")
    return verdict.code


def export(options: Namespace) -> int:
    from hpcens.result.export import export
    from hpcens.result.finished import Finished

    rows = export(Finished(options.result), options.output, options.datasets)
    print(f"{rows:,} rows → {short(options.output)}")
    return COMPLETE


def simulate(options: Namespace) -> int:
    from hpcens.planning.capacity import simulated

    show(simulated(options.plan, options.rows, as_json=options.json))
    return COMPLETE


def init(options: Namespace) -> int:
    from hpcens.config import template

    try:
        with options.path.open("x") as file:
            file.write(template())
    except FileExistsError:
        raise UsageError(f"{options.path} exists", "give another name: hpcens init RUN.YAML") from None
    except OSError as error:
        raise UsageError(f"{options.path}: {error.strerror}", "give another name: hpcens init RUN.YAML") from None
    print(f"{options.path} is written; next: edit it, then hpcens plan DATASET.H5 --config {options.path}")
    return COMPLETE


def conclude(job: Job, verdict: Verdict) -> int:
    """The report, and as the last line the verdict and the next command."""
    from hpcens.files import read_json
    from hpcens.reports.text import plan_lines, report_lines, start_lines
    from hpcens.runs.directory import RunDirectory
    from hpcens.runs.events import read_events
    from hpcens.vocabulary.plan import Plan

    run = RunDirectory.of(job.output)
    epoch = run.newest
    if epoch is not None and (report := read_json(epoch.report)):
        show(plan_lines(Plan.load(epoch.plan)))
        events = (event for _, event in read_events(epoch.events))
        show(start_lines(read_json(epoch.claim)["began"], events, report))
        show(report_lines(report))
    if verdict.code == COMPLETE:
        print(f"complete: {verdict.reason} → {short(job.output)}; next: hpcens verify {short(job.output)}")
    else:
        next_step = verdict.remedy or f"hpcens status {short(run.path)}"
        print(f"not complete ({verdict.code}): {verdict.reason}; next: {next_step}", file=sys.stderr)
    return verdict.code


def show(lines: Iterable[str]) -> None:
    for line in lines:
        print(line)


def short(path: Path) -> str:
    """The path as one would type it from here."""
    relative = os.path.relpath(path)
    return relative if len(relative) < len(str(path)) else str(path)
