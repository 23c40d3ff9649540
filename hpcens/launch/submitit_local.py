"""A start in the background of this host: submitit's local executor runs one task, which runs mpiexec."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpcens.errors import FAILURE
from hpcens.launch.follow import StopSignals, Watcher
from hpcens.launch.follow import follow as follow_start
from hpcens.launch.local import begin, order, ranks_of
from hpcens.runs import Epoch, RunDirectory, Verdict
from hpcens.specs import Job

if TYPE_CHECKING:
    from hpcens.checks.preflight import Preflight

_FOREVER_MINUTES = 365 * 24 * 60
# for submitit to put its own files in order once the ranks have a verdict
_SETTLE_SECONDS = 5.0


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
    """Be submitit's task: a start of so many ranks. The process imports next to nothing: ranks wait for it."""
    if gpus is None:
        os.environ.pop("CUDA_VISIBLE_DEVICES", None)  # submitit's local executor hides all GPUs
    else:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpus
    return begin(RunDirectory(Path(run)), expected, order).code


def follow(run: RunDirectory, submitted: Any, watcher: Watcher, newest: int) -> Verdict:
    """Show progress until the epoch after `newest` has a verdict or the job is gone. INT and TERM drain it."""

    def tick(epoch: Epoch) -> None:
        watcher.tick(epoch)
        if epoch.verdict is None and stop.pass_on() is not None:
            submitted.cancel()

    with StopSignals(run) as stop:
        verdict = follow_start(
            run,
            newest,
            tick=tick,
            verdict=lambda epoch: epoch.verdict,
            gone=lambda: _no_verdict(submitted) if submitted.done() else None,
        )
        settled = time.monotonic() + _SETTLE_SECONDS
        while not submitted.done() and time.monotonic() < settled:
            time.sleep(0.1)
    return verdict


def _no_verdict(submitted: Any) -> Verdict:
    error = Path(submitted.paths.stderr)
    last = error.read_text(errors="replace").strip().splitlines()[-2:] if error.exists() else []
    return Verdict(FAILURE, f"the job ended without a verdict: {' | '.join(last)}", f"look into {error}")
