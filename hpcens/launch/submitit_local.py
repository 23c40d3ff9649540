"""A start in the background of this host: submitit's local executor runs one task, which runs mpiexec."""

from __future__ import annotations

import os
import shlex
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpcens.entry import command
from hpcens.errors import FAILURE
from hpcens.launch.follow import StopSignals, Watcher, follow
from hpcens.launch.local import begin, order, ranks_of
from hpcens.runs import Epoch, RunDirectory, Verdict
from hpcens.specs import Job

if TYPE_CHECKING:
    from hpcens.checks.preflight import Preflight

_FOREVER_MINUTES = 365 * 24 * 60
# for submitit to put its own files in order once the ranks have a verdict
_SETTLE_SECONDS = 5.0


def submit(job: Job, preflight: Preflight) -> BackgroundJob:
    """Start the job in the background with submitit's local executor.

    Raises UsageError where this host has no device.
    """
    import submitit

    run, expected = RunDirectory.of(job.output), ranks_of(job)
    newest = run.newest
    run.own("submitit")
    executor = submitit.LocalExecutor(run.path / "submitit", python=shlex.join(command("hpcens.launch.queued")))
    executor.update_parameters(timeout_min=_FOREVER_MINUTES)
    folder = Path.cwd()
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # inherited: a Ctrl-C here is not the job's
    os.chdir(executor.folder)  # submitit's `python -m` imports from the working folder before all others
    try:
        submitted = executor.submit(
            task, str(run.path), expected, order(job, preflight), os.environ.get("CUDA_VISIBLE_DEVICES"), str(folder)
        )
    finally:
        os.chdir(folder)
        signal.signal(signal.SIGINT, before)
    return BackgroundJob(run, submitted, newest.number if newest else 0)


def task(run: str, expected: int, order: str, gpus: str | None, folder: str) -> int:
    """Be submitit's task: a start of so many ranks. The process imports next to nothing: ranks wait for it.

    gpus    CUDA_VISIBLE_DEVICES of the one that submitted it, None where it was not set
    folder  its working folder, in which the ranks are to run
    """
    os.chdir(folder)
    if gpus is None:
        os.environ.pop("CUDA_VISIBLE_DEVICES", None)  # submitit's local executor hides all GPUs
    else:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpus
    return begin(RunDirectory(Path(run)), expected, order).code


@dataclass(frozen=True, slots=True)
class BackgroundJob:
    """A job of submitit's local executor.

    submitted  submitit's job
    newest     number of the newest epoch before it, 0 if there was none
    """

    run: RunDirectory
    submitted: Any
    newest: int

    @property
    def id(self) -> str:
        """The number that submitit gave it."""
        return str(self.submitted.job_id)

    def follow(self, watcher: Watcher) -> Verdict:
        """Show how its start goes on until it has a verdict, or the job is gone. INT and TERM drain it."""

        def tick(epoch: Epoch) -> None:
            watcher.tick(epoch)
            if epoch.verdict is None and stop.pass_on() is not None:
                self.submitted.cancel()

        with StopSignals(self.run) as stop:
            verdict = follow(self.run, self.newest, tick=tick, verdict=lambda epoch: epoch.verdict, gone=self._gone)
            settled = time.monotonic() + _SETTLE_SECONDS
            while not self.submitted.done() and time.monotonic() < settled:
                time.sleep(0.1)
        return verdict

    def _gone(self) -> Verdict | None:
        if not self.submitted.done():
            return None
        error = Path(self.submitted.paths.stderr)
        last = error.read_text(errors="replace").strip().splitlines()[-2:] if error.exists() else []
        return Verdict(FAILURE, f"the job ended without a verdict: {' | '.join(last)}", f"look into {error}")
