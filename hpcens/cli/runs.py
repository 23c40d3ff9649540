"""Verbs on a run that was started: status, wait, logs, cancel, list."""

from __future__ import annotations

import json
import sys
import time
from argparse import Namespace
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path

from hpcens.api.cancellation import cancel as cancel_run
from hpcens.cli.terminal import say, short, show
from hpcens.errors import BAD_DATA, COMPLETE, FAILURE, INCOMPLETE, MISMATCH, USAGE, UsageError
from hpcens.reports.text import cost_phrase, figures, rate
from hpcens.runs import RunDirectory, signatures
from hpcens.runs.cost import Cost
from hpcens.runs.logs import log_files, log_lines
from hpcens.runs.scheduler_answer import OneQuestion
from hpcens.runs.status import Status, is_run, run_of
from hpcens.runs.status import status as status_of
from hpcens.shell import quoted

_WATCH_SECONDS = 2.0
# Of the codes of several runs the first of these counts: what needs a person before what needs a repetition.
_WORST_FIRST = (FAILURE, MISMATCH, BAD_DATA, USAGE, INCOMPLETE, COMPLETE)


def status(options: Namespace) -> int:
    """Print how a run stands; with --watch again and again, until it has ended, with its code."""
    while True:
        current = status_of(options.run)
        if options.json:
            show([json.dumps(asdict(current), indent=None if options.watch else 1)])
        else:
            if options.watch and sys.stdout.isatty():
                print("\x1b[H\x1b[J", end="")
            show(status_lines(current))
            if current.code is not None:
                _show_ending(options)
            show(last_lines(current))
        sys.stdout.flush()
        if not options.watch:
            return COMPLETE
        if current.code is not None:
            return current.code
        time.sleep(_WATCH_SECONDS)


def _show_ending(options: Namespace) -> None:
    """Show what an ended run scored and how fast it was."""
    from hpcens.reports.ending import ending_lines, output_of  # numpy and h5py, for an ended run alone

    run = run_of(options.run)
    show(ending_lines(run, Path(short(output_of(run))), verbose=options.verbose))


def wait(options: Namespace) -> int:
    """Wait until runs have ended, a line each; return the code of the worst."""
    waiting, codes = list(dict.fromkeys(options.run)), set()
    stuck: set[Path] = set()
    for path in waiting:
        run_of(path)  # what is no run is refused at once
    while waiting:
        ask = OneQuestion(_jobs_of(run_of(path) for path in waiting))
        for path in list(waiting):
            current = status_of(path, ask)
            if current.code is not None:
                waiting.remove(path)
                codes.add(current.code)
                next_step = f"; next: {current.remedy}" if current.remedy else ""
                say(f"{current.state}: {current.reason} → {short(Path(current.run))}{next_step}")
            elif current.stuck and path not in stuck:
                stuck.add(path)
                say(f"{short(Path(current.run))}: {current.reason}; next: {current.remedy}", to_stderr=True)
        if waiting:
            time.sleep(_WATCH_SECONDS)
    return next((code for code in _WORST_FIRST if code in codes), max(codes))


def _jobs_of(runs: Iterable[RunDirectory]) -> list[str]:
    """All jobs of some runs' submissions."""
    submissions = (run.submission for run in runs)
    return [job for submission in submissions if submission for job in submission.jobs]


def status_lines(status: Status) -> Iterator[str]:
    """Show how far a run is: rows, and while it goes on time left and what limits it."""
    share = f" ({100 * status.rows / status.of:.0f} %)" if status.of else ""
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
    if status.waiting_seconds is not None:
        starts = status.starts_in_seconds
        at = time.strftime("%d %b %H:%M", time.localtime(time.time() + starts)) if starts else ""
        expected = f"; expected to start in {_clock(starts)} ({at})" if starts else ""
        yield f"in the queue for {_clock(status.waiting_seconds)}{expected}"


def last_lines(status: Status) -> Iterator[str]:
    """Show what a run has cost, why its job was requeued, why it ended or what it does, and what to do next."""
    if status.node_hours:
        so_far = " so far" if status.code is None else ""
        yield f"used {cost_phrase(Cost(3600 * status.node_hours, 3600 * status.gpu_hours))}{so_far}"
    for number, reason in enumerate(status.requeues, 1):
        yield f"requeue {number}: {reason}"
    yield status.reason + (f"; next: {status.remedy}" if status.remedy else "")


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def logs(options: Namespace) -> int:
    """Print the logs of a run's last submission and of its newest start, each line with the role of its rank."""
    run = run_of(options.run)
    submission, epoch = run.submission, run.newest
    files = log_files(Path(submission.folder)) if submission else []
    roles = {signature.rank: signature.role for signature in signatures(epoch)} if epoch else {}
    if epoch is not None and epoch.log.exists():
        files.append(epoch.log)
    if not files:
        raise UsageError(f"{run.path} has no logs yet", f"hpcens status {quoted(run.path)}")
    for file in files:
        say(f"==> {short(file)}")
        text = file.read_text(errors="replace")
        own = epoch is not None and file == epoch.log
        lines = text.splitlines() if own else [_spoken(*line, roles) for line in log_lines(file, text)]
        show(lines[-options.lines :] if options.lines else lines)
    return COMPLETE


def _spoken(task: int | None, line: str, roles: Mapping[int, str]) -> str:
    """A line of a log as it is shown; roles: of the ranks in the newest start, which in a job are its tasks."""
    if task is None:
        return line
    return f"rank {task} ({roles[task]}): {line}" if task in roles else f"rank {task}: {line}"


def cancel(options: Namespace) -> int:
    """Have a run drain, or end it at once; take queued jobs out of the queue."""
    run = run_of(options.run)
    done = cancel_run(run, now=options.now)
    queue = done.endswith("out of the queue")
    following = "hpcens submit, when it is to go on" if queue else f"hpcens status {quoted(short(run.path))}"
    say(f"{done}; next: {following}")
    return COMPLETE


def runs(options: Namespace) -> int:
    """List the runs of a folder, a line each."""
    found = [run for path in sorted(options.folder.glob("*.run")) if is_run(run := RunDirectory(path))]
    ask = OneQuestion(_jobs_of(found))
    statuses = [status_of(run.path, ask) for run in found]
    if options.json:
        say(json.dumps([asdict(each) for each in statuses], indent=1))
    else:
        if statuses:
            say(f"{'state':13}  {'rows durable':>12} of {'all':<12}  {'job':8}  run")
        for each in statuses:
            say(f"{each.state:13}  {each.rows:>12,} of {each.of:<12,}  {each.job or '·':8}  {short(Path(each.run))}")
        if any(not each.job for each in statuses):
            say("(job: its id at Slurm; · where it was started on a host)")
    return COMPLETE
