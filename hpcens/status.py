"""Status: how a run stands, from the login node, through its files alone."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from hpcens.errors import COMPLETE, INCOMPLETE, UsageError
from hpcens.events import last_progress
from hpcens.rundir import RunDirectory, alive, read_json


@dataclass(frozen=True, slots=True)
class Status:
    """state: complete, running, resumable (drained) or failed; rows are those known to be durable."""

    run: str
    state: str
    epoch: int
    rows: int
    of: int
    rows_per_second: float
    updated: float
    reason: str
    remedy: str


def status(path: Path) -> Status:
    """The status of a run directory, or of the run of a result. Raises UsageError where there is none."""
    run = RunDirectory(path) if path.suffix == ".run" or path.is_dir() else RunDirectory.of(path)
    epoch = run.newest
    if epoch is None:
        raise UsageError(f"{path} is no run directory", "it lies beside the output: OUTPUT.run")
    progress = last_progress(epoch.events) or {"rows": 0, "of": 0, "time": epoch.folder.stat().st_mtime}
    claim = read_json(epoch.claim) or {"began": progress["time"]}
    verdict = epoch.verdict
    report = read_json(epoch.report) or {}
    if verdict is not None:
        state = {COMPLETE: "complete", INCOMPLETE: "resumable"}.get(verdict.code, "failed")
        reason, remedy = verdict.reason, verdict.remedy
    elif who := alive(epoch):
        state, reason, remedy = "running", f"{who} is alive", ""
    else:
        state, reason = "failed", "its processes are gone and left no verdict: the host went down, or all were killed"
        remedy = "run the same command again: what is journalled is kept"
    average = progress["rows"] / max(1e-9, progress["time"] - claim["began"])
    return Status(
        run=str(run.path),
        state=state,
        epoch=epoch.number,
        rows=progress["rows"],
        of=progress["of"],
        rows_per_second=report.get("rows_per_second", average),
        updated=time.time() - progress["time"],
        reason=reason,
        remedy=remedy,
    )
