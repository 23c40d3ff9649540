"""Show how a run stands, from the login node: through its files, and what Slurm said at most 40 s ago."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hpcens.errors import COMPLETE, INCOMPLETE, UsageError
from hpcens.files import read_as
from hpcens.runs.announcement import announced
from hpcens.runs.claim import Claim
from hpcens.runs.directory import RunDirectory
from hpcens.runs.epoch import Epoch, Verdict
from hpcens.runs.events import DrainBegan, Event, PlanMade, ProfilingBegan, ProgressMade, WorldFormed, recent
from hpcens.runs.liveness import alive
from hpcens.runs.postmortem import explain
from hpcens.runs.report import Report
from hpcens.runs.requeue import continues, outcome, requeues
from hpcens.runs.scheduler_answer import ask_sparingly
from hpcens.runs.submission import Submission
from hpcens.scheduler.jobs import Answer
from hpcens.shell import quoted

_WAITING = ("PENDING", "REQUEUED", "CONFIGURING")
# Of the rows/s of the last seconds: segments come in bursts, which these are to level out.
_NOW_SECONDS = 10.0

Ask = Callable[[RunDirectory, str], tuple[Answer | None, float]]
"""Asks Slurm for a job of a run: the answer, and its age in seconds."""


@dataclass(frozen=True, slots=True)
class Status:
    """How a run stands.

    state: queued, running, requeued, complete, resumable (drained), failed, or unknown (Slurm does not answer)
    rows, of             rows known to be durable, of how many
    phase, phases        members may be scored in groups, this being one of so many; rows are those of the phase
    rows_per_second      on average; rows_per_second_now: of the last seconds
    seconds_left         of work, by the average; None where nothing is known
    limit_seconds_left   until the job's time limit; None where there is none, or Slurm does not say
    limited_by           the bottleneck, by the plan
    job                  ids of the submission's jobs
    updated              seconds since the last progress
    requeues             why the run's jobs were put back into the queue, the oldest first
    """

    run: str
    state: str
    epoch: int
    rows: int
    of: int
    rows_per_second: float
    rows_per_second_now: float
    seconds_left: float | None
    limit_seconds_left: float | None
    limited_by: str
    job: str
    updated: float
    reason: str
    remedy: str
    requeues: list[str] = field(default_factory=list)
    phase: int = 1
    phases: int = 1


@dataclass(frozen=True, slots=True)
class _Standing:
    """A state, its reason and remedy, and what Slurm answered where it was asked."""

    state: str
    verdict: Verdict
    answer: Answer | None = None


def run_of(path: Path) -> RunDirectory:
    """Return the run directory meant by its own path or by that of the output.

    Raises UsageError where there is none.
    """
    run = RunDirectory(path) if path.suffix == ".run" or path.is_dir() else RunDirectory.of(path)
    if run.newest is None and run.submission is None and not announced(run.path):
        raise UsageError(f"{path} is no run directory", "it lies beside the output: OUTPUT.run")
    return run


def status(path: Path, ask: Ask = ask_sparingly) -> Status:
    """Return the status of a run directory, or of the run of a result. Raises UsageError where there is none."""
    run = run_of(path)
    newest, submission = run.newest, run.submission
    # a start that is older than the newest submission says nothing of it
    epoch = newest if newest and (submission is None or newest.number > submission.epoch) else None
    verdict = outcome(epoch) if epoch else None
    if submission and submission.jobs and (verdict is None or (epoch and continues(epoch))):
        standing = _of_job(run, epoch, submission, ask)
    elif verdict is not None:
        standing = _ended(verdict)
    elif newest is not None:
        standing = _of_processes(newest)
    elif coming := announced(run.path):
        process = next(iter(coming.values()))
        standing = _Standing("running", Verdict(0, f"process {process.pid} on {process.host} checks the job"))
    else:
        standing = _ended(explain(None, "", None))
    return _figures(run, newest, standing, submission.jobs if submission else ())


def _ended(verdict: Verdict, answer: Answer | None = None) -> _Standing:
    state = {COMPLETE: "complete", INCOMPLETE: "resumable"}.get(verdict.code, "failed")
    return _Standing(state, verdict, answer)


def _of_processes(epoch: Epoch) -> _Standing:
    """The standing of a start without a verdict, by its processes alone."""
    if process := alive(epoch):
        return _Standing("running", _activity(epoch, process))
    return _ended(explain(None, "", epoch))


def _of_job(run: RunDirectory, epoch: Epoch | None, submission: Submission, ask: Ask) -> _Standing:
    """The standing of a submission whose newest start, if any, has not ended or has put the job back."""
    job = submission.jobs[0]
    requeued = epoch is not None and continues(epoch)
    if epoch and not requeued and (process := alive(epoch)):
        return _Standing("running", _activity(epoch, process), ask(run, job)[0])
    answer, _ = ask(run, job)
    if answer is None:
        verdict = Verdict(0, f"Slurm does not answer for job {job}", f"hpcens status {quoted(run.path)}")
        return _Standing("requeued" if requeued else "unknown", verdict)
    ours = not answer.name or submission.id in answer.name  # job ids come again on a new cluster
    if ours and answer.state in _WAITING:
        reason = f"job {job} waits" + (f": {answer.why}" if answer.why else "")
        return _Standing("requeued" if requeued else "queued", Verdict(0, reason), answer)
    if ours and answer.state == "RUNNING" and (epoch is None or requeued):
        return _Standing("running", Verdict(0, f"job {job} starts on {answer.nodes}"), answer)
    end = explain(answer if ours else None, submission.folder, None if requeued else epoch)
    return _ended(end, answer)


def _activity(epoch: Epoch, process: str) -> Verdict:
    """What a start that lives is at.

    process  one of its processes, in words
    """
    events = recent(epoch.events)
    drains = [event.reason for event in events if isinstance(event, DrainBegan)]
    stage = _stage(events[-1] if events else None)
    return Verdict(0, f"draining: {drains[-1]}" if drains else stage or f"{process} is alive")


def _stage(event: Event | None) -> str:
    """What ranks do after this event, in words; empty where scoring has begun."""
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


def _figures(run: RunDirectory, epoch: Epoch | None, standing: _Standing, jobs: Sequence[str]) -> Status:
    """The standing with the figures of the newest start."""
    progress = [event for event in recent(epoch.events) if isinstance(event, ProgressMade)] if epoch else []
    last = progress[-1] if progress else _no_progress(epoch)
    speed = _average_speed(epoch, progress or [last])
    going = standing.state == "running" and speed > 0
    ends = standing.answer.ends if standing.answer else 0.0
    return Status(
        run=str(run.path),
        state=standing.state,
        epoch=epoch.number if epoch else 0,
        rows=last.rows,
        of=last.of,
        rows_per_second=speed,
        rows_per_second_now=_latest_speed(progress) if standing.state == "running" else 0.0,
        seconds_left=(last.phases * last.of - last.rows_passed) / speed if going else None,
        limit_seconds_left=max(0.0, ends - time.time()) if ends and going else None,
        limited_by=_limit(epoch) if epoch else "",
        job=", ".join(jobs),
        updated=time.time() - last.time,
        reason=standing.verdict.reason,
        remedy=standing.verdict.remedy,
        requeues=requeues(run),
        phase=last.phase,
        phases=last.phases,
    )


def _no_progress(epoch: Epoch | None) -> ProgressMade:
    """The progress of a start that has not begun to score: none, of as many rows as it is to score."""
    if epoch is None:
        return ProgressMade(0, 0, time=0.0)
    rows = read_as(epoch.job, lambda order: int(json.loads(order["preflight"])["facts"]["rows"])) or 0
    return ProgressMade(0, rows, time=epoch.folder.stat().st_mtime)


def _average_speed(epoch: Epoch | None, progress: Sequence[ProgressMade]) -> float:
    """Rows/s of a start: as it reported them, else by its progress, as far as that is in the events' tail."""
    if epoch and (report := Report.load(epoch.report)):
        return report.rows_per_second
    first, last = progress[0], progress[-1]
    if len(progress) > 1:
        return _speed(last.rows_passed - first.rows_passed, last.time - first.time)
    claim = Claim.load(epoch.claim) if epoch else None
    return _speed(last.rows_passed, last.time - claim.began if claim else 0.0)


def _latest_speed(progress: Sequence[ProgressMade]) -> float:
    """Rows/s of the last seconds of progress."""
    latest = [event for event in progress if progress[-1].time - event.time < _NOW_SECONDS]
    if len(latest) < 2:
        return 0.0
    seconds = latest[-1].time - latest[0].time
    return (latest[-1].rows_passed - latest[0].rows_passed) / seconds if seconds > 0 else 0.0


def _speed(rows: int, seconds: float) -> float:
    return rows / max(1e-9, seconds)


def _limit(epoch: Epoch) -> str:
    """What limits the bound of the start's plan, in words; empty where there is no plan yet."""
    return read_as(epoch.plan, lambda plan: str(plan.get("limit", ""))) or ""
