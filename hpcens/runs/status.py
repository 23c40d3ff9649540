"""Status: how a run stands, from the login node: through its files, and what Slurm said at most 40 s ago."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hpcens.errors import COMPLETE, INCOMPLETE, UsageError
from hpcens.files import read_json
from hpcens.runs.directory import RunDirectory
from hpcens.runs.epoch import Epoch, Verdict
from hpcens.runs.events import recent
from hpcens.runs.liveness import alive
from hpcens.runs.postmortem import explain
from hpcens.runs.requeue import continues, outcome
from hpcens.runs.scheduler_answer import ask_sparingly
from hpcens.runs.submission import Submission
from hpcens.scheduler.jobs import Answer

_PHASES = {
    "": "its ranks find each other",
    "world": "its ranks plan",
    "profiling": "its ranks measure the members on their devices",
    "planned": "its ranks load the members",
}

Ask = Callable[[RunDirectory, str], tuple[Answer | None, float]]


@dataclass(frozen=True, slots=True)
class Status:
    """state: queued, running, requeued, complete, resumable (drained) or failed; rows are those known to be durable.

    phase, phases        members may be scored in groups, this being one of so many; rows are those of the phase
    rows_per_second      on average; rows_per_second_now: of the last seconds
    seconds_left         of work, by the average; None where nothing is known
    limit_seconds_left   until the job's time limit; None where there is none, or Slurm does not say
    limited_by           the bottleneck, by the plan
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


def run_of(path: Path) -> RunDirectory:
    """The run directory meant by its own path or by that of the output. Raises UsageError where there is none."""
    run = RunDirectory(path) if path.suffix == ".run" or path.is_dir() else RunDirectory.of(path)
    if run.newest is None and run.submission is None:
        raise UsageError(f"{path} is no run directory", "it lies beside the output: OUTPUT.run")
    return run


def status(path: Path, ask: Ask = ask_sparingly) -> Status:
    """The status of a run directory, or of the run of a result. Raises UsageError where there is none."""
    run = run_of(path)
    epoch, submission = run.newest, run.submission
    began = epoch is not None and (submission is None or epoch.number > submission.epoch)
    jobs = submission.jobs if submission else ()
    verdict = outcome(epoch) if epoch and began else None
    state, told, answer = "", verdict, None
    if jobs and submission and (verdict is None or (epoch and continues(epoch))):
        state, told, answer = _of_job(run, epoch if began else None, submission, ask)
    elif verdict is None and epoch:
        state, told = _of_processes(epoch)
    if not state and told is not None:
        state = {COMPLETE: "complete", INCOMPLETE: "resumable"}.get(told.code, "failed")
    assert told is not None
    return _figures(run, epoch, state, told, jobs, answer)


def _of_processes(epoch: Epoch) -> tuple[str, Verdict]:
    if who := alive(epoch):
        return "running", Verdict(0, _doing(epoch, who))
    return "failed", explain(None, "", epoch)


def _doing(epoch: Epoch, who: str) -> str:
    """What a start that lives is at. who: one of its processes."""
    events = recent(epoch.events)
    stops = [event["reason"] for event in events if event["event"] == "draining"]
    last = events[-1]["event"] if events else ""
    return f"draining: {stops[-1]}" if stops else _PHASES.get(last, f"{who} is alive")


def _of_job(
    run: RunDirectory, epoch: Epoch | None, submission: Submission, ask: Ask
) -> tuple[str, Verdict, Answer | None]:
    """Of a submission whose newest start has not ended, or has put the job back."""
    if epoch and not continues(epoch) and (who := alive(epoch)):
        answer, _ = ask(run, submission.jobs[0])
        return "running", Verdict(0, _doing(epoch, who)), answer
    asked = [(job, *ask(run, job)) for job in submission.jobs[:1]]
    job, answer, _ = asked[0]
    ours = answer is None or not answer.name or submission.id in answer.name  # job ids come again on a new cluster
    if answer is None:
        state = "requeued" if epoch and continues(epoch) else "unknown"
        return state, Verdict(0, f"Slurm does not answer for job {job}", f"hpcens status {run.path}"), None
    if ours and answer.state in ("PENDING", "REQUEUED", "CONFIGURING"):
        state = "requeued" if epoch and continues(epoch) else "queued"
        return state, Verdict(0, f"job {job} waits" + (f": {answer.why}" if answer.why else "")), answer
    if ours and answer.state == "RUNNING" and not (epoch and not continues(epoch)):
        return "running", Verdict(0, f"job {job} starts on {answer.nodes}"), answer
    began = None if epoch and continues(epoch) else epoch
    return "", explain(answer if ours else None, submission.folder, began), answer


def _figures(
    run: RunDirectory, epoch: Epoch | None, state: str, told: Verdict, jobs: tuple[str, ...], answer: Answer | None
) -> Status:
    progress = [event for event in recent(epoch.events) if event["event"] == "progress"] if epoch else []
    known = (read_json(epoch.job) if epoch and not progress else None) or {}
    rows = json.loads(known["preflight"])["facts"]["rows"] if known else 0
    nothing: dict[str, Any] = {"rows": 0, "of": rows, "time": epoch.folder.stat().st_mtime if epoch else 0.0}
    last = progress[-1] if progress else nothing
    claim = (read_json(epoch.claim) if epoch else None) or {"began": last["time"]}
    report = (read_json(epoch.report) if epoch else None) or {}
    plan = (read_json(epoch.plan) if epoch else None) or {}
    first = next((p for p in progress if last["time"] - p["time"] < 10), last)
    span = last["time"] - first["time"]
    now = (_passed(last) - _passed(first)) / span if span > 0 and state == "running" else 0.0
    started = progress[0] if progress else last
    seconds = max(1e-9, last["time"] - (started["time"] if len(progress) > 1 else claim["began"]))
    average = (_passed(last) - (_passed(started) if len(progress) > 1 else 0)) / seconds
    speed = report.get("rows_per_second", average)
    going = state == "running" and speed > 0
    phase, phases = last.get("phase", 1), last.get("phases", 1)
    return Status(
        run=str(run.path),
        state=state,
        epoch=epoch.number if epoch else 0,
        rows=last["rows"],
        of=last["of"],
        rows_per_second=speed,
        rows_per_second_now=now,
        seconds_left=(phases * last["of"] - _passed(last)) / speed if going else None,
        limit_seconds_left=max(0.0, answer.ends - time.time()) if answer and answer.ends and going else None,
        limited_by=plan.get("limit", ""),
        job=", ".join(jobs),
        updated=time.time() - last["time"],
        reason=told.reason,
        remedy=told.remedy,
        requeues=[raw["reason"] for e in run.epochs() if (raw := read_json(e.requeue)) and not raw["refused"]][::-1],
        phase=phase,
        phases=phases,
    )


def _passed(progress: Mapping[str, Any]) -> int:
    """Rows that are durable, counted once in each phase."""
    return int(progress["rows"] + (progress.get("phase", 1) - 1) * progress["of"])
