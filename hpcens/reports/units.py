"""Write how many files stand together as text for a terminal."""

from __future__ import annotations

import os
from collections.abc import Iterator

from hpcens.errors import COMPLETE, INCOMPLETE
from hpcens.shell import in_a_line
from hpcens.units.status import UnitsStatus

_MOST_FAILED = 20


def units_lines(status: UnitsStatus) -> Iterator[str]:
    """Show how the files stand, which failed and why, and what to do next."""
    counts = f"{status.done} of {status.of} files done"
    parts = ((status.running, "running"), (status.queued, "queued"), (len(status.failed), "failed"))
    yield ", ".join([f"{status.state}: {counts}", *(f"{number} {name}" for number, name in parts if number)])
    if status.worlds or status.waiting:
        waiting = f", {status.waiting} in the queue" if status.waiting else ""
        job = f" (job {status.job})" if status.job else ""
        left = f", {clock(status.seconds_left)} left" if status.seconds_left is not None else ""
        yield f"{status.worlds} worlds{waiting}{job}: {status.rows_per_second:,.0f} rows/s in all{left}"
    yield f"{status.rows:,} rows scored"
    for failure in status.failed[:_MOST_FAILED]:
        yield f"failed ({failure.code}): {os.path.relpath(failure.dataset)}: {in_a_line(failure.reason)}"
    if len(status.failed) > _MOST_FAILED:
        yield f"… and {len(status.failed) - _MOST_FAILED} more failed; all: hpcens status --json"
    if status.code == INCOMPLETE:
        yield "next: run the same command again: it scores what is left, and tries again what failed"
    elif status.code not in (None, COMPLETE):
        yield "next: mend these files, and run the same command again: it scores them alone"


def clock(seconds: float) -> str:
    """Write a time as people do: 1:02:03 or 2:03."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
