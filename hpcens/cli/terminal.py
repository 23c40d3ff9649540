"""Terminal: what every verb prints in the same words: paths, lines, how a start concluded."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from hpcens.errors import COMPLETE

if TYPE_CHECKING:
    from hpcens.runs import Verdict
    from hpcens.specs import Job


def show(lines: Iterable[str]) -> None:
    for line in lines:
        print(line)


def short(path: Path) -> str:
    """The path as one would type it from here."""
    relative = os.path.relpath(path)
    return relative if len(relative) < len(str(path)) else str(path)


def conclude(job: Job, verdict: Verdict) -> int:
    """The report, and as the last line the verdict and the next command."""
    from hpcens.files import read_json
    from hpcens.reports.plans import plan_lines
    from hpcens.reports.text import report_lines, start_lines
    from hpcens.runs import RunDirectory, read_events
    from hpcens.vocabulary import Plan

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
