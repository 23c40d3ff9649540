"""Job: a start handed to submitit. Here its local executor runs one task, which runs mpiexec."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpcens.errors import FAILURE
from hpcens.launch.local import begin, order, ranks_of
from hpcens.reports.progress import Follower
from hpcens.runs import Epoch, RunDirectory, Verdict
from hpcens.specs import Job

if TYPE_CHECKING:
    from hpcens.checks.preflight import Preflight

_FOREVER_MINUTES = 365 * 24 * 60


def submit(job: Job, preflight: Preflight) -> Any:
    """Start the job in the background with submitit's local executor; returns submitit's job.

    Raises UsageError where this host has no device.
    """
    import submitit

    run, expected = RunDirectory.of(job.output), ranks_of(job)
    run.path.mkdir(exist_ok=True)
    executor = submitit.LocalExecutor(run.path / "submitit")
    executor.update_parameters(timeout_min=_FOREVER_MINUTES)
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # inherited: a Ctrl-C here is not the job's
    try:
        return executor.submit(
            task, str(run.path), expected, order(job, preflight), os.environ.get("CUDA_VISIBLE_DEVICES")
        )
    finally:
        signal.signal(signal.SIGINT, before)


def task(run: str, expected: int, order: str, gpus: str | None) -> int:
    """What submitit's task runs: a start of so many ranks. The process imports next to nothing: ranks wait for it."""
    if gpus is None:
        os.environ.pop("CUDA_VISIBLE_DEVICES", None)  # submitit's local executor hides all GPUs
    else:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpus
    return begin(RunDirectory(Path(run)), expected, order).code


def follow(job: Job, submitted: Any, follower: Follower, newest: int) -> Verdict:
    """Show progress until the epoch after `newest` has a verdict or the job is gone. INT and TERM drain it."""
    run = RunDirectory.of(job.output)
    heard: list[int] = []
    old = {
        number: signal.signal(number, lambda n, frame: heard.append(n)) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        while True:
            epoch = run.newest
            began = epoch is not None and epoch.number > newest
            gone = submitted.done()
            if epoch is not None and began:
                follower.tick(epoch)
                if epoch.verdict is not None and (gone or _settled(submitted)):
                    return epoch.verdict
                if heard and not run.cancel.exists():
                    run.cancel.write_text(f"stopped by {signal.Signals(heard[0]).name}")
                if len(heard) > 1:
                    submitted.cancel()
            if gone:
                return _gone(epoch if began else None, submitted)
            time.sleep(0.1)
    finally:
        follower.close()
        for number, handler in old.items():
            signal.signal(number, handler)


def _settled(submitted: Any) -> bool:
    """Give submitit a moment to put its own files in order."""
    for _ in range(50):
        if submitted.done():
            return True
        time.sleep(0.1)
    return True


def _gone(epoch: Epoch | None, submitted: Any) -> Verdict:
    if epoch is not None and epoch.verdict is not None:
        return epoch.verdict
    error = Path(submitted.paths.stderr)
    said = error.read_text(errors="replace").strip().splitlines()[-2:] if error.exists() else []
    return Verdict(FAILURE, f"the job ended without a verdict: {' | '.join(said)}", f"look into {error}")
