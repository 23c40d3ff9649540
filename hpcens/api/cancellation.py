"""Cancel a run that works or waits."""

from __future__ import annotations

from collections.abc import Sequence

from hpcens.errors import INCOMPLETE, HpcensError, UsageError
from hpcens.runs import AGAIN, Claim, RunDirectory, Submission, Verdict, alive, end_ranks
from hpcens.runs.announcement import announced
from hpcens.runs.cancellation import ask_to_end
from hpcens.runs.scheduler_answer import forget
from hpcens.scheduler import jobs as slurm
from hpcens.shell import quoted


def cancel(run: RunDirectory, *, now: bool = False) -> str:
    """Have a run drain, or end it at once; take queued jobs out of the queue. Return what was done, in words.

    now  kill it; what is durable is kept
    Raises UsageError where nothing works on the run, HpcensError where Slurm refuses.
    """
    epoch, submission, coming = run.newest, run.submission, announced(run.path)
    working = epoch is not None and bool(alive(epoch))
    jobs = submission.jobs if submission else ()
    living = _living(submission) if submission else []
    if not working and not living and not coming:
        raise UsageError(f"nothing works on {run.path}", f"hpcens status {quoted(run.path)}")
    claim = Claim.load(epoch.claim) if epoch is not None and working else None
    names = {*coming, *(claim.names if claim else ()), *([submission.id] if submission and living else ())}
    ask_to_end(run.cancel, "cancelled", names)
    if now and submission and living:
        _end(run, living)
        return f"job {', '.join(living)} is ended"
    if working:
        own = claim.job.id if claim and claim.job else ""
        waiting = [job for job in jobs if job in living and job != own]
        if waiting:
            _end(run, waiting)
        if now:
            _kill(run)
        return "killed" if now else "draining"
    if coming and not living:
        return "it will end before it begins"
    _end(run, living)
    return f"job {', '.join(living)} is out of the queue"


def _living(submission: Submission) -> list[str]:
    """Return the submission's jobs that wait or run, not those of another cluster, which may have the same ids."""
    answers = slurm.ask_all(submission.jobs) or {}
    return [job for job, a in answers.items() if a.lives and (not a.name or submission.id in a.name)]


def _end(run: RunDirectory, jobs: Sequence[str]) -> None:
    """End jobs of Slurm's, queued or running. Raises HpcensError where Slurm does not."""
    refused = slurm.end(jobs)
    forget(run)
    if refused:
        raise HpcensError(f"scancel: {refused}", f"try again: scancel {' '.join(jobs)}")


def _kill(run: RunDirectory) -> None:
    """Kill what works on the run on this host."""
    if epoch := run.newest:
        epoch.judge(Verdict(INCOMPLETE, "cancelled at once", AGAIN))
        end_ranks(epoch)
