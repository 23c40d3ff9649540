"""Print what every verb prints in the same words: paths, lines, how a start concluded."""

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
    """Print lines."""
    for line in lines:
        print(line)


def short(path: Path) -> str:
    """Return the path as one would type it in the current folder."""
    relative = os.path.relpath(path)
    return relative if len(relative) < len(str(path)) else str(path)


def conclude(job: Job, verdict: Verdict) -> int:
    """Print the report, and as the last line the verdict and the next command; return the exit code."""
    from hpcens.reports.plans import plan_lines
    from hpcens.reports.text import report_lines, start_lines
    from hpcens.runs import Claim, Report, RunDirectory, read_events
    from hpcens.vocabulary import Plan

    run = RunDirectory.of(job.output)
    epoch = run.newest
    if epoch is not None and (report := Report.load(epoch.report)) and (claim := Claim.load(epoch.claim)):
        show(plan_lines(Plan.load(epoch.plan)))
        show(start_lines(claim.began, (event for _, event in read_events(epoch.events)), report))
        show(report_lines(report))
    if verdict.code == COMPLETE:
        print(f"complete: {verdict.reason} → {short(job.output)}; next: hpcens verify {short(job.output)}")
    else:
        next_step = verdict.remedy or f"hpcens status {short(run.path)}"
        print(f"not complete ({verdict.code}): {verdict.reason}; next: {next_step}", file=sys.stderr)
    return verdict.code
