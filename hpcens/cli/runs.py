"""Verbs on a run that was started: status, logs, cancel, list."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from hpcens.cli.terminal import short, show
from hpcens.errors import COMPLETE, UsageError

if TYPE_CHECKING:
    from argparse import Namespace

    from hpcens.runs import RunDirectory
    from hpcens.runs.status import Status

_WATCH_SECONDS = 2.0


def status(options: Namespace) -> int:
    from dataclasses import asdict

    from hpcens.runs.status import status

    while True:
        found = status(options.run)
        lines = (
            [json.dumps(asdict(found), indent=None if options.watch else 1)] if options.json else status_lines(found)
        )
        if options.watch and sys.stdout.isatty() and not options.json:
            print("\x1b[H\x1b[J", end="")
        show(lines)
        sys.stdout.flush()
        if not options.watch or found.state not in ("queued", "running", "requeued", "unknown"):
            return COMPLETE
        time.sleep(_WATCH_SECONDS)


def status_lines(found: Status) -> Iterator[str]:
    share = f" ({100 * found.rows / found.of:.0f} %)" if found.of else ""
    job = f", job {found.job}" if found.job else ""
    speed = f"{found.rows_per_second:,.0f} rows/s"
    now = f" ({found.rows_per_second_now:,.0f} now)" if found.rows_per_second_now else ""
    phase = f" in phase {found.phase} of {found.phases}" if found.phases > 1 else ""
    yield f"{found.state}: {found.rows:,} of {found.of:,} rows{share}{phase}, {speed}{now}, epoch {found.epoch}{job}"
    if found.seconds_left is not None:
        limit = found.limit_seconds_left
        yield f"{_clock(found.seconds_left)} left" + (f" of work; time limit in {_clock(limit)}" if limit else "")
    if found.limited_by and found.state == "running":
        yield f"limited by {found.limited_by}"
    for i, reason in enumerate(found.requeues, 1):
        yield f"requeue {i}: {reason}"
    yield found.reason + (f"; next: {found.remedy}" if found.remedy else "")


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def logs(options: Namespace) -> int:
    from hpcens.launch.slurm import logs
    from hpcens.runs.status import run_of

    run = run_of(options.run)
    submission, epoch = run.submission, run.newest
    files = list(logs(submission)) if submission else []
    if epoch is not None and epoch.log.exists():
        files.append(epoch.log)
    if not files:
        raise UsageError(f"{run.path} has no logs yet", f"hpcens status {run.path}")
    for file in files:
        print(f"==> {short(file)}")
        lines = file.read_text(errors="replace").splitlines()
        show(lines[-options.lines :] if options.lines else lines)
    return COMPLETE


def cancel(options: Namespace) -> int:
    from hpcens.launch.slurm import cancel as end
    from hpcens.runs import alive
    from hpcens.runs.status import run_of
    from hpcens.scheduler import jobs as slurm

    run = run_of(options.run)
    epoch, submission = run.newest, run.submission
    working = epoch is not None and bool(alive(epoch))
    jobs = submission.jobs if submission else ()
    living = [job for job in jobs if (answer := slurm.ask(job)) is not None and answer.lives]
    if not working and not living:
        raise UsageError(f"nothing works on {run.path}", f"hpcens status {run.path}")
    if options.now and submission and living:
        end(submission)
        print(f"job {', '.join(living)} is ended; next: hpcens status {short(run.path)}")
        return COMPLETE
    if working:
        run.cancel.write_text("cancelled")
        waiting = [job for job in jobs[1:] if job in living]
        if waiting:
            slurm.end(waiting)
        if options.now:
            _kill(run)
        print(f"{'killed' if options.now else 'draining'}; next: hpcens status {short(run.path)}")
    elif submission:
        end(submission)
        print(f"job {', '.join(living)} is out of the queue; next: hpcens submit, when it is to go on")
    return COMPLETE


def _kill(run: RunDirectory) -> None:
    """Kill what works on the run on this host."""
    from hpcens.errors import INCOMPLETE
    from hpcens.launch.local import end_ranks
    from hpcens.runs import AGAIN, Verdict

    if epoch := run.newest:
        epoch.judge(Verdict(INCOMPLETE, "cancelled at once", AGAIN))
        end_ranks(epoch)


def runs(options: Namespace) -> int:
    from hpcens.runs.status import status

    found = [status(path) for path in sorted(options.folder.glob("*.run")) if (path / "epochs").is_dir()]
    if options.json:
        from dataclasses import asdict

        print(json.dumps([asdict(one) for one in found], indent=1))
    else:
        for one in found:
            print(f"{one.state:9}  {one.rows:>12,} of {one.of:<12,}  {one.job or '-':8}  {short(Path(one.run))}")
    return COMPLETE
