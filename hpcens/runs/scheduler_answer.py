"""Keep what Slurm last answered for a run's jobs in the run directory, for whoever asks next."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict
from typing import Any

from hpcens.files import checked, read_as, sealed, write_atomically
from hpcens.runs.directory import RunDirectory
from hpcens.scheduler.jobs import Answer, ask_all

ASK_SECONDS = 40.0
"""A run's controller is asked at most this often, whoever asks."""
AFTER_VERDICT_SECONDS = 5.0
"""The same where a start has ended: whether its job goes on is to be known soon."""

Answers = Mapping[str, Answer | None]
"""Job → what Slurm says of it; None where it does not answer."""
Ask = Callable[[RunDirectory, Collection[str], float], Answers]
"""Asks Slurm for jobs of a run, unless what was answered before is not older than so many seconds."""


def ask_sparingly(run: RunDirectory, jobs: Collection[str], within: float = ASK_SECONDS) -> Answers:
    """Return the answers kept in the run directory, asked for again once they are older than `within` seconds."""
    return _kept(run, jobs, within) or _noted(run, jobs, ask_all(jobs))


class OneQuestion:
    """Answers for many runs from one question to Slurm, put when the first of them needs it.

    jobs  of all the runs
    """

    def __init__(self, jobs: Collection[str]) -> None:
        self._jobs = jobs
        self._found: dict[str, Answer] | None = None
        self._asked = False

    def __call__(self, run: RunDirectory, jobs: Collection[str], within: float = ASK_SECONDS) -> Answers:
        """Answer as `ask_sparingly` does."""
        if kept := _kept(run, jobs, within):
            return kept
        if not self._asked:
            self._found, self._asked = ask_all(self._jobs), True
        return _noted(run, jobs, self._found)


def _kept(run: RunDirectory, jobs: Collection[str], within: float) -> Answers:
    """Return what is kept of all these jobs and is not older than so many seconds; else nothing."""
    asked, answers = read_as(run.path / "controller.json", _answers) or (0.0, {})
    fresh = 0 <= time.time() - asked < within and answers.keys() >= set(jobs)
    return {job: answers[job] for job in jobs} if fresh else {}


def _answers(raw: dict[str, Any]) -> tuple[float, dict[str, Answer | None]]:
    """When it was asked, and the answers."""
    answers = {str(job): checked(Answer(**answer)) if answer else None for job, answer in raw["answers"].items()}
    return float(raw["asked"]), answers


def _noted(run: RunDirectory, jobs: Collection[str], found: Mapping[str, Answer] | None) -> Answers:
    answers = {job: (found or {}).get(job) for job in jobs}
    note(run, answers)
    return answers


def note(run: RunDirectory, answers: Answers) -> None:
    """Keep answers for whoever asks next; a run directory that cannot be written to keeps none."""
    raw = {job: asdict(answer) if answer else None for job, answer in answers.items()}
    try:
        kept = sealed(json.dumps({"asked": time.time(), "answers": raw}))
        write_atomically(run.path / "controller.json", kept)
    except OSError:
        return


def forget(run: RunDirectory) -> None:
    """Forget the answers: what was done to the jobs meanwhile is not in them."""
    (run.path / "controller.json").unlink(missing_ok=True)
