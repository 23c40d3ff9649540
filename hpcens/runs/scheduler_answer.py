"""Keep what Slurm last answered for a run's job in the run directory, for whoever asks next."""

from __future__ import annotations

import json
import time
from dataclasses import asdict

from hpcens.files import read_json, write_atomically
from hpcens.runs.directory import RunDirectory
from hpcens.scheduler.jobs import Answer, ask

ASK_SECONDS = 40.0
"""A run's controller is asked at most this often, whoever asks."""


def ask_sparingly(run: RunDirectory, job: str) -> tuple[Answer | None, float]:
    """Return the answer kept in the run directory, asked for again once it is old; and its age in seconds."""
    kept = read_json(run.path / "controller.json")
    now = time.time()
    if kept and kept["job"] == job and 0 <= now - kept["asked"] < ASK_SECONDS:
        return (Answer(**kept["answer"]) if kept["answer"] else None), now - kept["asked"]
    answer = ask(job)
    note(run, job, answer)
    return answer, 0.0


def note(run: RunDirectory, job: str, answer: Answer | None) -> None:
    """Keep an answer for whoever asks next; a run directory that cannot be written to keeps none."""
    kept = {"job": job, "asked": time.time(), "answer": asdict(answer) if answer else None}
    try:
        write_atomically(run.path / "controller.json", json.dumps(kept))
    except OSError:
        return
