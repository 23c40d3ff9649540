"""A start in the background of this host: submitit's local executor runs one task, which runs mpiexec."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpcens.entry import command
from hpcens.errors import FAILURE, HpcensError
from hpcens.launch.follow import StopSignals, Watcher, follow
from hpcens.launch.local import begin, order, ranks_of
from hpcens.processes import die_with
from hpcens.runs import AGAIN, Claim, Epoch, RunDirectory, Verdict, end_ranks
from hpcens.runs.announcement import Announcement
from hpcens.specs import Job

if TYPE_CHECKING:
    from hpcens.checks.preflight import Preflight

_FOREVER_MINUTES = 365 * 24 * 60
# for submitit to put its own files in order once the ranks have a verdict
_SETTLE_SECONDS = 5.0


def submit(job: Job, preflight: Preflight, *, announcement: str = "") -> BackgroundJob:
    """Start the job in the background with submitit's local executor.

    announcement  id of what announced it; whoever does not follow the job leaves that to it
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
        submitted: Any = executor.submit(
            task,
            str(run.path),
            expected,
            order(job, preflight),
            os.environ.get("CUDA_VISIBLE_DEVICES"),
            str(folder),
            announcement,
        )
    finally:
        os.chdir(folder)
        signal.signal(signal.SIGINT, before)
    Announcement(run.path, announcement).hand_to(submitted._process.pid)
    return BackgroundJob(run, submitted, newest.number if newest else 0, announcement)


def task(run: str, expected: int, order: str, gpus: str | None, folder: str, announcement: str = "") -> dict[str, Any]:
    """Be submitit's task: a start of so many ranks; return its verdict as a dict.

    The process imports next to nothing: ranks wait for it.

    gpus    CUDA_VISIBLE_DEVICES of the one that submitted it, None where it was not set
    folder  its working folder, in which the ranks are to run
    """
    os.chdir(folder)
    if gpus is None:
        os.environ.pop("CUDA_VISIBLE_DEVICES", None)  # submitit's local executor hides all GPUs
    else:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpus
    die_with(os.getppid())  # submitit's own process, which nobody misses but this job
    word = Announcement(Path(run), announcement)
    word.make()
    try:
        return asdict(begin(RunDirectory(Path(run)), expected, order, announcement=announcement))
    except HpcensError as error:
        print(f"hpcens: {error}", file=sys.stderr)
        return asdict(Verdict(error.exit_code, error.what, error.remedy))
    finally:
        word.end()


@dataclass(frozen=True, slots=True)
class BackgroundJob:
    """A job of submitit's local executor.

    submitted  submitit's job
    newest     number of the newest epoch before it, 0 if there was none
    announcement  id of what announced it
    """

    run: RunDirectory
    submitted: Any
    newest: int
    announcement: str

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

        with StopSignals(self.run, {self.announcement}) as stop:
            verdict = follow(
                self.run,
                self.newest,
                tick=tick,
                verdict=lambda epoch: epoch.verdict,
                gone=lambda: self._gone(stop),
                own=self._owns,
            )
            self.settle()
        return verdict

    def settle(self) -> None:
        """Let submitit put its own files in order once there is a verdict, and end its process."""
        settled = time.monotonic() + _SETTLE_SECONDS
        while not self.submitted.done() and time.monotonic() < settled:
            time.sleep(0.1)

    def ended(self) -> Verdict | None:
        """Return how the job ended; None while it goes on. Signals are left to this process."""
        done = self._gone(StopSignals(self.run, ()))  # asked first: what it left before its end still counts
        epoch = self.run.newest
        if epoch is not None and epoch.number > self.newest and self._owns(epoch) and epoch.verdict is not None:
            return epoch.verdict
        return done

    def _owns(self, epoch: Epoch) -> bool:
        """Whether a start is this job's: another may have been quicker."""
        claim = Claim.load(epoch.claim)
        return claim is not None and claim.announcement == self.announcement

    def _gone(self, stop: StopSignals) -> Verdict | None:
        """Return how the job ended, as it says itself, or that it does not; None while it goes on."""
        if not self.submitted.done():
            if stop.pass_on() is not None:
                self.submitted.cancel()
            return None
        with contextlib.suppress(Exception):  # whatever submitit raises where the process was killed
            return Verdict(**self.submitted.result())
        error = Path(self.submitted.paths.stderr)
        last = error.read_text(errors="replace").strip().splitlines()[-2:] if error.exists() else []
        told = f": {' | '.join(last)}" if last else ": it was killed"
        verdict = Verdict(FAILURE, f"the job ended without a verdict{told}", f"{AGAIN}; or look into {error}")
        epoch = self.run.newest
        if epoch is not None and epoch.number > self.newest and self._owns(epoch):
            end_ranks(epoch)
            return epoch.judge(verdict)
        return verdict
