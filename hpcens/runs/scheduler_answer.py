"""Keep what Slurm last answered for a run's job in the run directory, for whoever asks next."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from typing import Any

from hpcens.files import checked, read_as, sealed, write_atomically
from hpcens.runs.directory import RunDirectory
from hpcens.scheduler.jobs import Answer, ask

ASK_SECONDS = 40.0
"""A run's controller is asked at most this often, whoever asks."""


def ask_sparingly(run: RunDirectory, job: str) -> tuple[Answer | None, float]:
    """Return the answer kept in the run directory, asked for again once it is old; and its age in seconds."""
    kept = read_as(run.path / "controller.json", _kept)
    now = time.time()
    if kept and kept[0] == job and 0 <= now - kept[1] < ASK_SECONDS:
        return kept[2], now - kept[1]
    answer = ask(job)
    note(run, job, answer)
    return answer, 0.0


def _kept(raw: dict[str, Any]) -> tuple[str, float, Answer | None]:
    """Return the job that was asked for, when, and the answer."""
    answer = checked(Answer(**raw["answer"])) if raw["answer"] else None
    return str(raw["job"]), float(raw["asked"]), answer


def note(run: RunDirectory, job: str, answer: Answer | None) -> None:
    """Keep an answer for whoever asks next; a run directory that cannot be written to keeps none."""
    kept = {"job": job, "asked": time.time(), "answer": asdict(answer) if answer else None}
    try:
        write_atomically(run.path / "controller.json", sealed(json.dumps(kept)))
    except OSError:
        return
