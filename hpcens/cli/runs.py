"""Verbs on runs that were started: status, wait, logs, cancel, list."""

from __future__ import annotations

import json
import sys
import time
from argparse import Namespace
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path

from hpcens.api.cancellation import cancel as cancel_run
from hpcens.cli.several import as_json, cancel_units, listed, show_logs, status_of_any, table
from hpcens.cli.terminal import say, short, show
from hpcens.errors import COMPLETE, UsageError, next_steps
from hpcens.reports.table import sum_line
from hpcens.reports.text import broken_lines, cost_phrase, figures, rate
from hpcens.reports.units import units_lines
from hpcens.runs import RunDirectory, signatures
from hpcens.runs.cost import Cost
from hpcens.runs.loads import read_loads
from hpcens.runs.logs import log_files, log_lines
from hpcens.runs.scheduler_answer import OneQuestion
from hpcens.runs.status import Status, is_run
from hpcens.shell import quoted
from hpcens.units import UnitsDirectory
from hpcens.units.selection import Selected, select
from hpcens.units.status import UnitsStatus, worst
from hpcens.vocabulary import Plan

_WATCH_SECONDS = 2.0
# Who waits for hours looks less often: after this part of the time waited so far, and at most after so many seconds.
_PART, _MOST_SECONDS = 0.01, 20.0


def status(options: Namespace) -> int:
    """Print how runs stand; with --watch again and again, until they have ended, with the code of the worst."""
    kept: dict[tuple[type, Path], Selected] = {}  # what was read of many files is not read again
    while True:
        chosen = [kept.setdefault((type(item), item.path), item) for item in select(options.run)]
        ask = OneQuestion(_jobs_of(chosen))
        current = [status_of_any(item, ask) for item in chosen]
        if options.json:
            show([as_json(current, indent=None if options.watch else 1)])
        else:
            if options.watch and sys.stdout.isatty():
                print("\x1b[H\x1b[J", end="")
            [only] = current if len(current) == 1 else [None]
            if isinstance(only, Status):
                show(status_lines(only))
                ended = only.code is not None
                if only.state == "running":
                    _show_loads(RunDirectory(Path(only.run)))
                if ended:
                    _show_ending(RunDirectory(Path(only.run)), options)
                show(last_lines(only, costs=not (ended and options.verbose)))  # its details end with what it cost
            else:
                show(table(current))
        sys.stdout.flush()
        if not options.watch:
            return COMPLETE
        codes = {each.code for each in current}
        if None not in codes:
            return worst({code for code in codes if code is not None})
        time.sleep(_WATCH_SECONDS)


def _show_loads(run: RunDirectory) -> None:
    """Show what the devices of the newest start do, and what limits them, as far as it has left word of it."""
    from hpcens.reports.limits import device_lines, limit_sentence

    epoch = run.newest
    plan = Plan.kept(epoch.plan) if epoch is not None else None
    if epoch is not None and plan is not None and (loads := read_loads(epoch)):
        show(device_lines(plan, loads))
        show([line for line in [limit_sentence(plan, loads)] if line])


def _show_ending(run: RunDirectory, options: Namespace) -> None:
    """Show what an ended run scored and how fast it was."""
    from hpcens.reports.ending import ending_lines, output_of  # numpy and h5py, for an ended run alone

    show(ending_lines(run, Path(short(output_of(run))), verbose=options.verbose))


def wait(options: Namespace) -> int:
    """Wait until runs have ended, a line each; return the code of the worst."""
    waiting, ended = select(options.run), list[Status | UnitsStatus]()
    stuck, began = set[Path](), time.monotonic()
    while waiting:
        ask = OneQuestion(_jobs_of(waiting))
        for item in list(waiting):
            current, name = status_of_any(item, ask), short(item.path)
            if current.code is not None:
                waiting.remove(item)
                ended.append(current)
                if isinstance(current, Status):
                    say(f"{current.state}: {current.reason} → {name}{next_steps(current.remedy)}")
                else:
                    show(units_lines(current))
            elif isinstance(current, Status) and current.stuck and item.path not in stuck:
                stuck.add(item.path)
                say(f"{name}: {current.reason}{next_steps(current.remedy)}", to_stderr=True)
        if waiting:
            time.sleep(min(_MOST_SECONDS, max(_WATCH_SECONDS, _PART * (time.monotonic() - began))))
    if len(ended) > 1:
        say(sum_line(ended))
    return worst({each.code for each in ended if each.code is not None})


def _jobs_of(chosen: Iterable[Selected]) -> list[str]:
    """All jobs of some runs' submissions."""
    submissions = (item.submission for item in chosen if isinstance(item, RunDirectory))
    return [job for submission in submissions if submission for job in submission.jobs]


def status_lines(status: Status) -> Iterator[str]:
    """Show how far a run is: rows, and while it goes on time left and what limits it."""
    share = f" ({100 * status.rows // status.of} %)" if status.of else ""
    job = f", job {status.job}" if status.job else ""
    now = f" ({figures(status.rows_per_second_now)} now)" if status.rows_per_second_now else ""
    speed = f"{rate(status.rows_per_second)}{now}, " if status.code is None else ""
    phase = f" in phase {status.phase} of {status.phases}" if status.phases > 1 else ""
    rows = f"{status.rows:,} of {status.of:,} rows{share}{phase}"
    yield f"{status.state}: {rows}, {speed}start {status.epoch}{job}"
    if status.seconds_left is not None:
        limit = status.limit_seconds_left
        yield f"{_clock(status.seconds_left)} left" + (f" of work; time limit in {_clock(limit)}" if limit else "")
    if status.limited_by and status.state == "running":
        yield f"limited by {status.limited_by}"
    if status.code is None:  # how an ended run ended says it, see `ending_lines`
        yield from broken_lines(status.broken, status.taken)
        yield from (f"warning: {warning}" for warning in status.warnings)
    if status.waiting_seconds is not None:
        starts = status.starts_in_seconds
        at = time.strftime("%d %b %H:%M", time.localtime(time.time() + starts)) if starts else ""
        expected = f"; expected to start in {_clock(starts)} ({at})" if starts else ""
        yield f"in the queue for {_clock(status.waiting_seconds)}{expected}"


def last_lines(status: Status, *, costs: bool = True) -> Iterator[str]:
    """Show what a run has cost, why its job was requeued, why it ended or what it does, and what to do next.

    costs  whether to show what it has cost
    """
    if status.node_hours and costs:
        so_far = " so far" if status.code is None else ""
        yield f"used {cost_phrase(Cost(3600 * status.node_hours, 3600 * status.gpu_hours))}{so_far}"
    for number, reason in enumerate(status.requeues, 1):
        yield f"requeue {number}: {reason}"
    yield status.reason + next_steps(status.remedy)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def logs(options: Namespace) -> int:
    """Print the logs of each run's last submission and newest start, each line with the role of its rank."""
    for item in select(options.run):
        if isinstance(item, RunDirectory):
            _show_logs(item, options)
        else:
            show_logs(item, options.lines)
    return COMPLETE


def _show_logs(run: RunDirectory, options: Namespace) -> None:
    submission, epoch = run.submission, run.newest
    files = log_files(Path(submission.folder)) if submission else []
    roles = {signature.rank: signature.role for signature in signatures(epoch)} if epoch else {}
    if epoch is not None and epoch.log.exists():
        files.append(epoch.log)
    if not files and (run.path / "worlds").is_dir():  # which have shared it
        show_logs(UnitsDirectory(run.path), options.lines)
        return
    if not files:
        raise UsageError(f"{run.path} has no logs yet", f"hpcens status {quoted(run.path)}")
    for file in files:
        say(f"==> {short(file)}")
        text = file.read_text(errors="replace")
        own = epoch is not None and file == epoch.log
        lines = text.splitlines() if own else [_spoken(*line, roles) for line in log_lines(file, text)]
        show(lines[-options.lines :] if options.lines else lines)


def _spoken(task: int | None, line: str, roles: Mapping[int, str]) -> str:
    """Write a line of a log as it is shown; roles: of the ranks in the newest start, which in a job are its tasks."""
    if task is None:
        return line
    return f"rank {task} ({roles[task]}): {line}" if task in roles else f"rank {task}: {line}"


def cancel(options: Namespace) -> int:
    """Have runs drain, or end them at once; take queued jobs out of the queue."""
    chosen, idle = select(options.run), []
    for item in chosen:
        try:
            if isinstance(item, RunDirectory):
                _cancel(item, options)
            else:
                cancel_units(item, options)
        except UsageError as error:
            idle.append(error)
    if len(idle) == len(chosen):
        raise idle[0]
    return COMPLETE


def _cancel(run: RunDirectory, options: Namespace) -> None:
    """End one run. Raises UsageError where nothing works on it."""
    done = cancel_run(run, now=options.now)
    queue = done.endswith("out of the queue")
    following = "hpcens submit, when it is to go on" if queue else f"hpcens status {quoted(short(run.path))}"
    say(f"{done}; next: {following}")


def runs(options: Namespace) -> int:
    """List the runs of a folder, a line each."""
    many = [UnitsDirectory(path) for path in sorted(options.folder.glob("*.run")) if (path / "lists").is_dir()]
    shared = {units.path for units in many}  # of which some are runs too, while worlds share their datasets
    runs = (RunDirectory(path) for path in sorted(options.folder.glob("*.run")) if path not in shared)
    found = [run for run in runs if is_run(run)]
    ask = OneQuestion(_jobs_of(found))
    chosen: list[Selected] = [*found, *many]
    statuses = [status_of_any(item, ask) for item in chosen]
    if options.json:
        say(json.dumps([asdict(each) for each in statuses], indent=1))
        return COMPLETE
    show(listed(statuses))
    return COMPLETE
