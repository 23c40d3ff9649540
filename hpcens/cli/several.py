"""Verbs on several runs, and on many files, together: their status, their logs, an end to them."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from argparse import Namespace
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from hpcens.cli.terminal import say, short, show
from hpcens.errors import HpcensError, UsageError
from hpcens.reports.units import units_lines
from hpcens.runs.cancellation import ask_to_end
from hpcens.runs.scheduler_answer import OneQuestion
from hpcens.runs.status import Status
from hpcens.runs.status import status as status_of
from hpcens.scheduler import jobs as slurm
from hpcens.shell import in_a_line, quoted
from hpcens.units import UnitsDirectory
from hpcens.units.selection import Selected
from hpcens.units.status import UnitsStatus, status_of_units
from hpcens.units.worlds import living_worlds, load_world


def status_of_any(item: Selected, ask: OneQuestion) -> Status | UnitsStatus:
    """Return how a run, or many files, stand."""
    shared = isinstance(item, UnitsDirectory) and (item.path / "lists").is_dir()  # gone once blocks are put together
    return status_of_units(UnitsDirectory(item.path)) if shared else status_of(item.path, ask)


def table(statuses: Sequence[Status | UnitsStatus]) -> Iterator[str]:
    """Show several together: many files as a block of lines each, runs as a line each, and what they come to."""
    runs = [each for each in statuses if isinstance(each, Status)]
    for each in statuses:
        if isinstance(each, UnitsStatus):
            if len(statuses) > 1:
                yield f"==> {short(Path(each.run))}"
            yield from units_lines(each)
    for each in runs:
        why = "" if each.state in ("complete", "running") else f"  {in_a_line(each.reason, 100)}"
        yield f"{each.state:13}  {each.rows:>12,} of {each.of:<12,}  {each.job or '-':8}  {short(Path(each.run))}{why}"
    if len(runs) > 1:
        states = ", ".join(f"{count} {state}" for state, count in Counter(each.state for each in runs).items())
        speed = sum(each.rows_per_second for each in runs if each.state == "running")
        left = [each.seconds_left for each in runs if each.seconds_left is not None]
        going = f"; {speed:,.0f} rows/s in all" if speed else ""
        going += f", {max(left) / 60:,.0f} minutes left" if left else ""
        yield f"{len(runs)} runs: {states}{going}"


def as_json(statuses: Sequence[Status | UnitsStatus], *, indent: int | None) -> str:
    """Write one status as an object, several as a list."""
    raw = [asdict(each) for each in statuses]
    return json.dumps(raw[0] if len(raw) == 1 else raw, indent=indent)


def show_logs(units: UnitsDirectory, lines: int | None) -> None:
    """Print what the worlds of many files wrote. Raises UsageError where there is nothing yet."""
    files = [path / "output.log" for _, path in units.world_folders()]
    files += [path for own in units.rounds() if own.folder for path in sorted(Path(own.folder).glob("*.log"))]
    there = [path for path in files if path.exists()]
    if not there:
        raise UsageError(f"{units.path} has no logs yet", f"hpcens status {quoted(units.path)}")
    for path in there:
        say(f"==> {short(path)}")
        text = path.read_text(errors="replace").splitlines()
        show(text[-lines:] if lines else text)


def cancel_units(units: UnitsDirectory, options: Namespace) -> None:
    """End the worlds of many files: what each is at is drained, and what waits leaves the queue.

    Raises UsageError where nothing works on them.
    """
    living, rounds = living_worlds(units.worlds), units.rounds()
    jobs = [job for own in rounds for job in own.jobs]
    queue = (slurm.elements(jobs) if jobs else None) or Counter()
    if not living and not queue:
        raise UsageError(f"nothing works on {units.path}", f"hpcens status {quoted(units.path)}")
    ask_to_end(units.cancel, "cancelled", {own.id for own in rounds})
    if jobs and queue:
        refused = slurm.end(jobs if options.now else ["--state=PENDING", *jobs])
        if refused:
            raise HpcensError(f"scancel: {refused}", f"try again: scancel {' '.join(jobs)}")
    if options.now:
        for name in living:
            world = load_world(units.worlds / name)
            if world is not None and world.process.lives:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(world.process.pid, signal.SIGKILL)  # its ranks die with it
    say(f"{'killed' if options.now else 'draining'}; next: hpcens status {quoted(short(units.path))}")
