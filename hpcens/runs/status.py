"""Show how a run stands, from the login node: through its files, and what Slurm said at most 40 s ago."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hpcens.errors import UsageError
from hpcens.files import read_as
from hpcens.runs.announcement import announced
from hpcens.runs.claim import Claim
from hpcens.runs.cost import cost_of_run
from hpcens.runs.directory import RunDirectory
from hpcens.runs.epoch import Epoch
from hpcens.runs.events import ProgressMade, recent
from hpcens.runs.report import Report
from hpcens.runs.requeue import requeues
from hpcens.runs.scheduler_answer import Ask, ask_sparingly
from hpcens.runs.standing import WAITING, Standing, standing
from hpcens.runs.submission import Submission
from hpcens.runs.void import is_void

# Of the rows/s of the last seconds: segments come in bursts, which these are to level out.
_NOW_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Status:
    """How a run stands.

    state: queued, running, requeued, complete, resumable (drained), failed, not submitted (Slurm refused the job), or
           unknown (Slurm does not answer)
    code                 exit code of how it ended; None while it, or a job of it, goes on
    rows, of             rows known to be durable, of how many
    phase, phases        members may be scored in groups, this being one of so many; rows are those of the phase
    rows_per_second      on average; rows_per_second_now: of the last seconds
    seconds_left         of work, by the average; None where nothing is known
    limit_seconds_left   until the job's time limit; None where there is none, or Slurm does not say
    limited_by           the bottleneck, by the plan
    job                  ids of the submission's jobs
    updated              seconds since the last progress
    requeues             why the run's jobs were put back into the queue, the oldest first
    waiting_seconds      since the job was put into the queue; None where it does not wait
    starts_in_seconds    until Slurm expects the job to start; None where it does not wait, or Slurm does not say
    stuck                whether the job waits for what does not pass by itself
    node_hours           that all starts took, this one included; gpu_hours: of GPUs
    broken               what devices said that broke in the newest start
    taken                rows that others were handed in their place, each counted once for each member
    warnings             what looked wrong of the members before the newest start
    """

    run: str
    state: str
    code: int | None
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
    waiting_seconds: float | None = None
    starts_in_seconds: float | None = None
    stuck: bool = False
    node_hours: float = 0.0
    gpu_hours: float = 0.0
    broken: list[str] = field(default_factory=list)
    taken: int = 0
    warnings: list[str] = field(default_factory=list)


def is_run(run: RunDirectory) -> bool:
    """Tell whether there is anything of a run in a directory."""
    return run.newest is not None or run.submission is not None or bool(announced(run.path))


def run_of(path: Path) -> RunDirectory:
    """Return the run directory meant by its own path or by that of the output.

    Raises UsageError where there is none.
    """
    run = RunDirectory(path) if path.suffix == ".run" or path.is_dir() else RunDirectory.of(path)
    if not is_run(run) and path.is_file():
        raise UsageError(
            f"{path} is no run directory, and {run.path} is not there",
            "a result whose run directory is gone is complete all the same: hpcens verify reads it through",
        )
    if not is_run(run):
        raise UsageError(f"{path} is no run directory", "it lies beside the output: OUTPUT.run")
    return run


def status(path: Path, ask: Ask = ask_sparingly) -> Status:
    """Return the status of a run directory, or of the run of a result. Raises UsageError where there is none."""
    run = run_of(path)
    run.refuse_blocks()
    return _figures(run, standing(run, ask), run.submission)


def _figures(run: RunDirectory, found: Standing, submission: Submission | None) -> Status:
    """Return the standing with the figures of the newest start."""
    epochs = list(run.epochs())
    epoch = epochs[0] if epochs else None
    progress = _progress(epoch) if epoch else []
    before = _made_before(run, epochs[1:])
    last = progress[-1] if progress else _no_progress(epoch, before, submission)
    speed = _average_speed(epoch, progress, before)
    going = found.state == "running" and speed > 0
    answer = found.answer
    ends = answer.ends if answer else 0.0
    waits = answer is not None and answer.state in WAITING and found.state in ("queued", "requeued")
    now = time.time()
    cost = cost_of_run(run, running=found.state == "running" and epoch is not None and epoch.verdict is None)
    since = (answer.submitted if answer else 0.0) or (submission.submitted if submission else now)
    return Status(
        run=str(run.path),
        state=found.state,
        code=found.verdict.code if found.final else None,
        epoch=epoch.number if epoch else 0,
        rows=last.rows,
        of=last.of,
        rows_per_second=speed,
        rows_per_second_now=_latest_speed(progress) if found.state == "running" else 0.0,
        seconds_left=(last.phases * last.of - last.rows_passed) / speed if going else None,
        limit_seconds_left=max(0.0, ends - now) if ends and going else None,
        limited_by=_limit(epoch) if epoch else "",
        job=", ".join(submission.jobs) if submission else "",
        updated=now - last.time,
        reason=found.verdict.reason,
        remedy=found.verdict.remedy,
        requeues=requeues(run),
        phase=last.phase,
        phases=last.phases,
        waiting_seconds=max(0.0, now - since) if waits else None,
        starts_in_seconds=answer.starts - now if waits and answer and answer.starts > now else None,
        stuck=found.stuck,
        node_hours=cost.node_seconds / 3600,
        gpu_hours=cost.gpu_seconds / 3600,
        broken=list(progress[-1].broken) if progress else [],
        taken=progress[-1].taken if progress else 0,
        warnings=epoch.warnings if epoch else [],
    )


def _progress(epoch: Epoch) -> list[ProgressMade]:
    return [event for event in recent(epoch.events) if isinstance(event, ProgressMade)]


def _made_before(run: RunDirectory, epochs: Sequence[Epoch]) -> ProgressMade | None:
    """Return the last progress of earlier starts, the newest first; None where there is none, or it is void."""
    last = next((progress[-1] for epoch in epochs if (progress := _progress(epoch))), None)
    return None if last is None or is_void(run.path, run.fixed_fingerprint) else last


def _no_progress(epoch: Epoch | None, before: ProgressMade | None, submission: Submission | None) -> ProgressMade:
    """Return the progress of a start that has not begun to score: what earlier ones made of as many rows.

    before  the last progress of earlier starts; it counts where they were to score as many rows
    """
    rows, since = submission.rows if submission else 0, submission.submitted if submission else time.time()
    if epoch is not None:
        rows = read_as(epoch.job, lambda order: int(json.loads(order["preflight"])["facts"]["rows"])) or rows
        since = epoch.folder.stat().st_mtime
    return before if before and before.of == (rows or before.of) else ProgressMade(0, rows, time=since)


def _average_speed(epoch: Epoch | None, progress: Sequence[ProgressMade], before: ProgressMade | None) -> float:
    """Return rows/s of a start: as it reported them, else by its progress, as far as that is in the events' tail.

    before  the last progress of earlier starts
    """
    if epoch and (report := Report.load(epoch.report)):
        return report.rows_per_second
    if not epoch or not progress:
        return 0.0
    first, last = progress[0], progress[-1]
    if len(progress) > 1:
        return _speed(last.rows_passed - first.rows_passed, last.time - first.time)
    claim = Claim.load(epoch.claim)
    fresh = last.rows_passed - (before.rows_passed if before else 0)
    return _speed(max(0, fresh), last.time - claim.began) if claim else 0.0


def _latest_speed(progress: Sequence[ProgressMade]) -> float:
    """Return rows/s of the last seconds of progress."""
    latest = [event for event in progress if progress[-1].time - event.time < _NOW_SECONDS]
    if len(latest) < 2:
        return 0.0
    seconds = latest[-1].time - latest[0].time
    return (latest[-1].rows_passed - latest[0].rows_passed) / seconds if seconds > 0 else 0.0


def _speed(rows: int, seconds: float) -> float:
    return rows / max(1e-9, seconds)


def _limit(epoch: Epoch) -> str:
    """Say what limits the bound of the start's plan; empty where there is no plan yet."""
    return read_as(epoch.plan, lambda plan: str(plan.get("limit", ""))) or ""
