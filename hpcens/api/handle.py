"""A job that goes on by itself: how it stands, its end, its result."""

from __future__ import annotations

import time
from pathlib import Path

from hpcens.api.cancellation import cancel
from hpcens.api.configuration import PathLike
from hpcens.api.opened import Result, open_result
from hpcens.config.job import absolute
from hpcens.errors import (
    BAD_DATA,
    COMPLETE,
    FAILURE,
    INCOMPLETE,
    MISMATCH,
    USAGE,
    DataError,
    FingerprintMismatch,
    HpcensError,
    Incomplete,
    UsageError,
)
from hpcens.launch.follow import StartedJob
from hpcens.launch.submitit_local import BackgroundJob
from hpcens.runs import RunDirectory, Verdict
from hpcens.runs.status import Status, run_of, status
from hpcens.shell import as_called

_LIVING = ("queued", "running", "requeued", "unknown")
_LOOK_SECONDS = 0.5
_ERRORS = {
    USAGE: UsageError,
    BAD_DATA: DataError,
    INCOMPLETE: Incomplete,
    MISMATCH: FingerprintMismatch,
}


class Handle:
    """A job that was submitted. It is a name for files: the job goes on when the handle is gone, see `attach`.

    output   the result that it makes
    started  the job where this process has handed it in; None where it is followed by its files alone
    """

    def __init__(self, output: Path, started: StartedJob | None = None) -> None:
        self.output = output
        self._started = started

    @property
    def id(self) -> str:
        """Number of the job, as Slurm or submitit gives it; empty where it was complete already, or is not known."""
        return self._started.id if self._started is not None else ""

    def status(self) -> Status:
        """Return how the run stands: its state, rows, rows per second and seconds left.

        Raises UsageError where nothing was started yet.
        """
        return status(RunDirectory.of(self.output).path)

    def wait(self, timeout: float | None = None) -> Verdict:
        """Wait for the job's end and return how it ended. Ctrl-C ends the waiting, and not the job.

        timeout  seconds; None: however long it takes
        Raises TimeoutError where the job has not ended by then.
        """
        end = None if timeout is None else time.monotonic() + timeout
        while (verdict := self._verdict()) is None:
            if end is not None and time.monotonic() >= end:
                raise TimeoutError(f"{self.output} is not complete after {timeout:g} s")
            time.sleep(_LOOK_SECONDS if end is None else min(_LOOK_SECONDS, max(0.0, end - time.monotonic())))
        if isinstance(self._started, BackgroundJob):
            self._started.settle()
        return verdict

    def cancel(self, *, now: bool = False) -> str:
        """Let the job finish what it has begun, or take it out of the queue; return what was done, in words.

        now  kill it; what is durable is kept
        Raises UsageError where nothing works on the run.
        """
        return cancel(run_of(RunDirectory.of(self.output).path), now=now)

    def result(self, timeout: float | None = None) -> Result:
        """Wait for the job's end and open its result.

        timeout  as that of `wait`
        Raises HpcensError with what the job ended with; `Incomplete` where submitting it again continues it.
        """
        raise_unless_complete(self.wait(timeout))
        return open_result(self.output)

    def _verdict(self) -> Verdict | None:
        """Return how the job ended; None while it waits or works."""
        if isinstance(self._started, BackgroundJob):
            return self._started.ended()
        if self._started is None and self.output.exists():  # it has its name only once it is complete
            return Verdict(COMPLETE, "the result is complete")
        standing = self.status()
        if standing.state in _LIVING:
            return None
        epoch = RunDirectory.of(self.output).newest
        if epoch is not None and epoch.verdict is not None and epoch.verdict.reason == standing.reason:
            return epoch.verdict
        code = {"complete": COMPLETE, "resumable": INCOMPLETE}.get(standing.state, FAILURE)
        return Verdict(code, standing.reason, standing.remedy)

    def __repr__(self) -> str:
        job = f"job {self.id}, " if self.id else ""
        try:
            standing = self.status()
        except HpcensError:
            state = "complete" if self.output.exists() else "not started"
        else:
            state = f"{standing.state}, {standing.rows:,} of {standing.of:,} rows"
        return f"<hpcens.Handle of {self.output.name}: {job}{state}>"


def attach(path: PathLike) -> Handle:
    """Return a handle of a run that was started earlier, from the command line or by another process.

    path  of the result that it makes, or of its run directory beside it: OUTPUT.run of OUTPUT.h5
    Raises UsageError where there is neither.
    """
    given = absolute(Path(path))
    output = given.with_suffix(".h5") if given.suffix == ".run" else given
    if not output.exists():
        run_of(given)
    return Handle(output)


def raise_unless_complete(verdict: Verdict) -> None:
    """Raise what a run ended with, unless it is complete: the class says whose fault it is."""
    if verdict.code != COMPLETE:
        kind = _ERRORS.get(verdict.code, HpcensError)
        raise kind(verdict.reason, as_called(verdict.remedy) or "see what its ranks wrote: hpcens logs OUTPUT.run")
