"""Verbs on a run that was started: status, logs, cancel, list."""

from __future__ import annotations

import json
import sys
import time
from argparse import Namespace
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from hpcens.cli.terminal import say, short, show
from hpcens.errors import COMPLETE, INCOMPLETE, HpcensError, UsageError
from hpcens.runs import AGAIN, Claim, RunDirectory, Verdict, alive, end_ranks
from hpcens.runs.announcement import announced
from hpcens.runs.cancellation import ask_to_end
from hpcens.runs.status import Status, run_of
from hpcens.runs.status import status as status_of
from hpcens.scheduler import jobs as slurm
from hpcens.shell import quoted

_WATCH_SECONDS = 2.0


def status(options: Namespace) -> int:
    """Print how a run stands; with --watch again and again, until it has ended."""
    while True:
        current = status_of(options.run)
        if options.json:
            show([json.dumps(asdict(current), indent=None if options.watch else 1)])
        else:
            if options.watch and sys.stdout.isatty():
                print("\x1b[H\x1b[J", end="")
            show(status_lines(current))
        sys.stdout.flush()
        if not options.watch or current.state not in ("queued", "running", "requeued", "unknown"):
            return COMPLETE
        time.sleep(_WATCH_SECONDS)


def status_lines(status: Status) -> Iterator[str]:
    """Show how a run stands: rows, time left, requeues, the reason and what to do next."""
    share = f" ({100 * status.rows / status.of:.0f} %)" if status.of else ""
    job = f", job {status.job}" if status.job else ""
    speed = f"{status.rows_per_second:,.0f} rows/s"
    now = f" ({status.rows_per_second_now:,.0f} now)" if status.rows_per_second_now else ""
    phase = f" in phase {status.phase} of {status.phases}" if status.phases > 1 else ""
    rows = f"{status.rows:,} of {status.of:,} rows{share}{phase}"
    yield f"{status.state}: {rows}, {speed}{now}, epoch {status.epoch}{job}"
    if status.seconds_left is not None:
        limit = status.limit_seconds_left
        yield f"{_clock(status.seconds_left)} left" + (f" of work; time limit in {_clock(limit)}" if limit else "")
    if status.limited_by and status.state == "running":
        yield f"limited by {status.limited_by}"
    for number, reason in enumerate(status.requeues, 1):
        yield f"requeue {number}: {reason}"
    yield status.reason + (f"; next: {status.remedy}" if status.remedy else "")


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def logs(options: Namespace) -> int:
    """Print the logs of a run's last submission and of its newest start."""
    run = run_of(options.run)
    submission, epoch = run.submission, run.newest
    files = submission.logs() if submission else []
    if epoch is not None and epoch.log.exists():
        files.append(epoch.log)
    if not files:
        raise UsageError(f"{run.path} has no logs yet", f"hpcens status {quoted(run.path)}")
    for file in files:
        say(f"==> {short(file)}")
        lines = file.read_text(errors="replace").splitlines()
        show(lines[-options.lines :] if options.lines else lines)
    return COMPLETE


def cancel(options: Namespace) -> int:
    """Have a run drain, or end it at once; take queued jobs out of the queue."""
    run = run_of(options.run)
    epoch, submission, coming = run.newest, run.submission, announced(run.path)
    working = epoch is not None and bool(alive(epoch))
    jobs = submission.jobs if submission else ()
    living = [job for job in jobs if (answer := slurm.ask(job)) is not None and answer.lives]
    if not working and not living and not coming:
        raise UsageError(f"nothing works on {run.path}", f"hpcens status {quoted(run.path)}")
    claim = Claim.load(epoch.claim) if epoch is not None and working else None
    names = {*coming, *(claim.names if claim else ()), *([submission.id] if submission and living else ())}
    ask_to_end(run.cancel, "cancelled", names)
    if options.now and submission and living:
        _end(submission.jobs)
        say(f"job {', '.join(living)} is ended; next: hpcens status {quoted(short(run.path))}")
        return COMPLETE
    if working:
        waiting = [job for job in jobs[1:] if job in living]
        if waiting:
            slurm.end(waiting)
        if options.now:
            _kill(run)
        say(f"{'killed' if options.now else 'draining'}; next: hpcens status {quoted(short(run.path))}")
    elif coming and not living:
        say(f"it will end before it begins; next: hpcens status {quoted(short(run.path))}")
    elif submission:
        _end(submission.jobs)
        say(f"job {', '.join(living)} is out of the queue; next: hpcens submit, when it is to go on")
    return COMPLETE


def _end(jobs: Sequence[str]) -> None:
    """End jobs of Slurm's, queued or running. Raises HpcensError where Slurm does not."""
    if refused := slurm.end(jobs):
        raise HpcensError(f"scancel: {refused}", f"try again: scancel {' '.join(jobs)}")


def _kill(run: RunDirectory) -> None:
    """Kill what works on the run on this host."""
    if epoch := run.newest:
        epoch.judge(Verdict(INCOMPLETE, "cancelled at once", AGAIN))
        end_ranks(epoch)


def runs(options: Namespace) -> int:
    """List the runs of a folder, a line each."""
    statuses = [status_of(path) for path in sorted(options.folder.glob("*.run")) if (path / "epochs").is_dir()]
    if options.json:
        say(json.dumps([asdict(run) for run in statuses], indent=1))
    else:
        for run in statuses:
            say(f"{run.state:9}  {run.rows:>12,} of {run.of:<12,}  {run.job or '-':8}  {short(Path(run.run))}")
    return COMPLETE
