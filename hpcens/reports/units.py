"""Write how many files stand together as text for a terminal."""

from __future__ import annotations

import os
from collections.abc import Iterator

from hpcens.errors import COMPLETE, INCOMPLETE
from hpcens.reports.text import cost_phrase
from hpcens.runs.cost import Cost
from hpcens.shell import counted, in_a_line
from hpcens.units.status import UnitsStatus

_MOST_FAILED = 20


def units_lines(status: UnitsStatus) -> Iterator[str]:
    """Show how the files, or the blocks of a dataset, stand, which failed and why, and what to do next."""
    counts = f"{status.done} of {status.of} {status.noun} done"
    parts = ((status.running, "running"), (status.queued, "queued"), (len(status.failed), "failed"))
    yield ", ".join([f"{status.state}: {counts}", *(f"{number} {name}" for number, name in parts if number)])
    if status.worlds or status.waiting:
        waiting = f", {status.waiting} in the queue" if status.waiting else ""
        job = f" (job {status.job})" if status.job else ""
        left = f", {clock(status.seconds_left)} left" if status.seconds_left is not None else ""
        yield f"{counted(status.worlds, 'world')}{waiting}{job}: {status.rows_per_second:,.0f} rows/s in all{left}"
    of_rows = f" of {status.of_rows:,}" if status.of_rows else ""
    yield f"{status.rows:,}{of_rows} rows scored"
    if status.stage and status.code is None:
        yield status.stage
    if status.node_hours:
        so_far = " so far" if status.code is None else ""
        yield f"used {cost_phrase(Cost(3600 * status.node_hours, 3600 * status.gpu_hours))}{so_far}"
    yield from failure_lines(status)


def failure_lines(status: UnitsStatus) -> Iterator[str]:
    """Say what failed and why, and what to do next."""
    for failure in status.failed[:_MOST_FAILED]:
        name = os.path.relpath(failure.dataset) if failure.dataset.startswith(os.sep) else failure.dataset
        yield f"failed ({failure.code}): {name}: {in_a_line(failure.reason)}"
    if len(status.failed) > _MOST_FAILED:
        yield f"… and {len(status.failed) - _MOST_FAILED} more failed; all: hpcens status --json"
    if status.refused:
        yield f"the hosts that came were refused ({status.code}): {in_a_line(status.refused)}"
    elif status.code == INCOMPLETE:
        yield "next: run the same command again: it scores what is left, and tries again what failed"
    elif status.code not in (None, COMPLETE):
        yield f"next: mend these {status.noun}, and run the same command again: it scores them alone"


def clock(seconds: float) -> str:
    """Write a time as people do: 1:02:03 or 2:03."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
