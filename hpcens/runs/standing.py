"""Decide how a run stands: from its starts' verdicts, its processes, and what Slurm says of its jobs."""

from __future__ import annotations

from dataclasses import dataclass

from hpcens.errors import COMPLETE, INCOMPLETE, USAGE
from hpcens.runs.announcement import announced
from hpcens.runs.cancellation import asked_to_end
from hpcens.runs.claim import Claim
from hpcens.runs.directory import RunDirectory
from hpcens.runs.epoch import Epoch, Verdict
from hpcens.runs.events import DrainBegan, Event, PlanMade, ProfilingBegan, WorldFormed, recent
from hpcens.runs.liveness import alive
from hpcens.runs.postmortem import explain
from hpcens.runs.requeue import continues, outcome
from hpcens.runs.roll_call import present
from hpcens.runs.scheduler_answer import AFTER_VERDICT_SECONDS, ASK_SECONDS, Ask
from hpcens.runs.submission import SlurmJob, Submission
from hpcens.scheduler.jobs import Answer, installed
from hpcens.scheduler.waiting import lasting
from hpcens.shell import quoted

WAITING = ("PENDING", "REQUEUED", "CONFIGURING")
_HALTED = ("SUSPENDED", "STOPPED")
_SUBMIT_AGAIN = "correct what is asked for, and submit it again"


@dataclass(frozen=True, slots=True)
class Standing:
    """A state, its reason and remedy.

    answer  what Slurm says of the job that counts, where it was asked
    final   whether nothing of the run goes on, a job that ends included
    stuck   whether a job waits for what does not pass by itself
    """

    state: str
    verdict: Verdict
    answer: Answer | None = None
    final: bool = False
    stuck: bool = False


def standing(run: RunDirectory, ask: Ask) -> Standing:
    """Return how a run stands."""
    newest, submission = run.newest, run.submission
    # a start that is older than the newest submission says nothing of it
    epoch = newest if newest and (submission is None or newest.number > submission.epoch) else None
    verdict = outcome(epoch) if epoch else None
    if submission and submission.jobs and not _is_last_word(run, epoch, verdict, submission):
        return _of_jobs(run, epoch, verdict, submission, ask)
    if verdict is not None:
        return _ended(verdict)
    if newest is not None and (process := alive(newest)):
        return Standing("running", _activity(newest, process))
    if coming := announced(run.path):
        checks = next(iter(coming.values()))
        return Standing("running", Verdict(0, f"process {checks.pid} on {checks.host} checks the job"))
    if submission and not submission.jobs and epoch is None:
        reason = submission.refused or "submit ended before Slurm had taken the job"
        return Standing("not submitted", Verdict(USAGE, reason, _SUBMIT_AGAIN), final=True)
    return _ended(explain(None, "", newest))


def _is_last_word(run: RunDirectory, epoch: Epoch | None, verdict: Verdict | None, submission: Submission) -> bool:
    """Whether no job of the submission can go on, whatever Slurm says of them: it is complete, or was cancelled."""
    if epoch is None or verdict is None or continues(epoch):
        return False
    return verdict.code == COMPLETE or bool(asked_to_end(run.cancel, {submission.id}))


def _ended(verdict: Verdict, answer: Answer | None = None, *, final: bool = True) -> Standing:
    state = {COMPLETE: "complete", INCOMPLETE: "resumable"}.get(verdict.code, "failed")
    return Standing(state, verdict, answer, final)


def _of_jobs(
    run: RunDirectory, epoch: Epoch | None, verdict: Verdict | None, submission: Submission, ask: Ask
) -> Standing:
    """Return the standing of a submission of which a job may wait or run.

    epoch, verdict  its newest start and how that ended; None while there is none
    """
    own = _job_of(epoch, submission)
    last = own.id if own else submission.jobs[0]
    process = alive(epoch) if epoch and verdict is None else ""
    answers = ask(run, submission.jobs, ASK_SECONDS if verdict is None else AFTER_VERDICT_SECONDS)
    if epoch and process:
        return Standing("running", _activity(epoch, process), answers.get(last))
    # job ids come again on a new cluster
    ours = {job: a for job, a in answers.items() if a is not None and (not a.name or submission.id in a.name)}
    coming = next((job for job, a in ours.items() if a.lives and not _is_of(own, job, a)), None)
    if coming is not None:
        return _of_coming(coming, ours[coming], epoch, verdict, submission.folder)
    answer = answers.get(last)
    back = epoch is not None and continues(epoch)
    if answer is None and (verdict is None or back):
        silent = Verdict(0, f"Slurm does not answer for job {last}", f"hpcens status {quoted(run.path)}")
        return Standing("requeued" if back else "unknown", silent)
    ends = ours.get(last)
    if back and ends is not None and ends.lives:
        return Standing("requeued", Verdict(0, f"job {last} goes back into the queue"), ends)
    if verdict is not None and not back:
        return _ended(verdict, ends, final=not installed() if answer is None else ends is None or not ends.lives)
    if ends is not None and ends.state in _HALTED:
        return Standing("running", Verdict(0, f"job {last} is suspended: it goes on when Slurm lets it"), ends)
    folder = submission.folder if epoch is None or own else ""
    final = ends is None or not ends.lives
    return _ended(explain(ends, folder, None if back else epoch), ends, final=final)


def _job_of(epoch: Epoch | None, submission: Submission) -> SlurmJob | None:
    """Return the submission's job that a start ran in; None where it ran in none."""
    claim = Claim.load(epoch.claim) if epoch else None
    job = claim.job if claim else None
    return job if job and job.submission == submission.id and job.id in submission.jobs else None


def _is_of(own: SlurmJob | None, job: str, answer: Answer) -> bool:
    """Whether what lives of a job is the start that is known, on its way out, and not one to come."""
    return own is not None and own.id == job and answer.state not in WAITING and answer.restarts <= own.restart


def _of_coming(job: str, answer: Answer, epoch: Epoch | None, verdict: Verdict | None, folder: str) -> Standing:
    """Return the standing of a run of which a job is to begin a start.

    epoch, verdict  the start before it of the same submission, and how that ended
    folder          the submission's
    """
    before = ""
    if epoch is not None and not continues(epoch):
        before = f"epoch {epoch.number} ended: {verdict.reason if verdict else 'it left no verdict'}; "
    if answer.state not in WAITING:
        here = present(folder, job, answer.nodes)
        starts = f"{before}job {job} starts on {answer.nodes}" + (f": {here}" if here else "")
        return Standing("running", Verdict(0, starts), answer)
    remedy = lasting(answer.why, job)
    reason = f"{before}job {job} waits" + (f": {answer.why}" if answer.why else "")
    said = Verdict(0, f"{reason}, which does not pass by itself" if remedy else reason, remedy)
    return Standing("queued" if epoch is None else "requeued", said, answer, stuck=bool(remedy))


def _activity(epoch: Epoch, process: str) -> Verdict:
    """Return the standing of a start that lives.

    process  one of its processes, in words
    """
    events = recent(epoch.events)
    drains = [event.reason for event in events if isinstance(event, DrainBegan)]
    stage = _stage(events[-1] if events else None)
    return Verdict(0, f"draining: {drains[-1]}" if drains else stage or f"{process} is alive")


def _stage(event: Event | None) -> str:
    """Say what ranks do after this event; empty where scoring has begun."""
    match event:
        case None:
            return "its ranks find each other"
        case WorldFormed():
            return "its ranks plan"
        case ProfilingBegan():
            return "its ranks measure the members on their devices"
        case PlanMade():
            return "its ranks load the members"
    return ""
