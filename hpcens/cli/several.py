"""Verbs on several runs, and on many files, together: their status, their logs, an end to them."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from argparse import Namespace
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from hpcens.cli.terminal import say, short, show
from hpcens.errors import HpcensError, UsageError
from hpcens.reports.table import status_lines, table_lines, world_lines
from hpcens.reports.units import units_lines
from hpcens.runs.cancellation import ask_to_end
from hpcens.runs.scheduler_answer import OneQuestion
from hpcens.runs.status import Status
from hpcens.runs.status import status as status_of
from hpcens.scheduler import jobs as slurm
from hpcens.shell import quoted
from hpcens.units import UnitsDirectory
from hpcens.units.queue import forget
from hpcens.units.selection import Selected
from hpcens.units.status import UnitsStatus, status_of_units
from hpcens.units.worlds import living_worlds, load_world


def status_of_any(item: Selected, ask: OneQuestion) -> Status | UnitsStatus:
    """Return how a run, or many files, stand."""
    if isinstance(item, UnitsDirectory) and (item.path / "lists").is_dir():  # gone once blocks are put together
        return status_of_units(item)
    return status_of(item.path, ask)


def table(statuses: Sequence[Status | UnitsStatus]) -> Iterator[str]:
    """Show several in one table, with the worlds at work; many files alone in words, with theirs."""
    [only] = statuses if len(statuses) == 1 else [None]
    if isinstance(only, UnitsStatus):
        yield from units_lines(only)
        yield from world_lines([only], _named)
    else:
        yield from status_lines(statuses, _named)


def listed(statuses: Sequence[Status | UnitsStatus]) -> Iterator[str]:
    """Show a line each, without what they are at."""
    yield from table_lines(statuses, _named)


def _named(run: str) -> str:
    return short(Path(run))


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
    queue = slurm.elements(jobs) if jobs else None
    if not living and not queue:
        raise UsageError(f"nothing works on {units.path}", f"hpcens status {quoted(units.path)}")
    ask_to_end(units.cancel, "cancelled", {own.id for own in rounds})
    if jobs and queue:
        refused = slurm.end(jobs if options.now else ["--state=PENDING", *jobs])
        forget(units)
        if refused:
            raise HpcensError(f"scancel: {refused}", f"try again: scancel {' '.join(jobs)}")
    if options.now:
        for name in living:
            world = load_world(units.worlds / name)
            if world is not None and world.process.lives:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(world.process.pid, signal.SIGKILL)  # its ranks die with it
    say(f"{'killed' if options.now else 'draining'}; next: hpcens status {quoted(short(units.path))}")
