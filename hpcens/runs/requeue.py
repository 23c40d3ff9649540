"""Requeue: a job that was warned of its end puts itself back into the queue, once everything is durable.

Only the reader does it, after the reducer's last sync and the verdict, so that nothing is lost when Slurm then ends
the ranks. USR2 is such a warning, and TERM where Slurm says that the job is preempted: one that ends within the grace
time is not requeued by Slurm. TERM alone (scancel) asks for an end, not for more.
"""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Collection
from dataclasses import replace
from typing import Any

from hpcens.errors import INCOMPLETE
from hpcens.files import read_json, write_atomically
from hpcens.runs.directory import RunDirectory
from hpcens.runs.epoch import AGAIN, Epoch, Verdict
from hpcens.runs.submission import SlurmJob
from hpcens.scheduler import jobs
from hpcens.scheduler.jobs import Answer

WARNED = signal.SIGUSR2
PREEMPTED = "preempted"
_NEAR_LIMIT = 15 * 60.0


def requeues(run: RunDirectory, job: SlurmJob) -> list[str]:
    """Why this job, or the others of its submission, were put back before; the oldest first."""
    found = (read_json(epoch.requeue) for epoch in run.epochs())
    return [raw["reason"] for raw in found if raw and job.same(raw["job"]) and not raw["refused"]][::-1]


def why(heard: Collection[int], answer: Answer | None) -> str:
    """What a drain's signals mean, in words; empty where they say no more than their name."""
    if answer is not None and answer.preempted:
        return PREEMPTED
    if WARNED in heard:
        near = answer is None or not answer.ends or answer.ends - time.time() < _NEAR_LIMIT
        return "the time limit is near" if near else "asked to make room (USR2)"
    if signal.SIGTERM in heard and answer is not None and answer.state == "CANCELLED":
        return "cancelled"
    return ""


def decide(verdict: Verdict, heard: Collection[int], reason: str, before: int, bound: int) -> tuple[Verdict, bool]:
    """What is to be said of a drained start, and whether its job is requeued.

    reason         what `why` made of the signals
    before, bound  how often the job was requeued, and how often it may be
    """
    if verdict.code != INCOMPLETE or not (WARNED in heard or reason == PREEMPTED):
        return verdict, False
    if before >= bound:
        remedy = "run the same command again; to allow more: slurm.requeues in the YAML"
        reason = f"{verdict.reason}; requeued {before} times already, as often as allowed"
        return replace(verdict, reason=reason, remedy=remedy), False
    return replace(verdict, remedy=f"none needed: the job continues by itself (requeue {before + 1} of {bound})"), True


def continues(epoch: Epoch) -> bool:
    """Whether a start put its job back into the queue."""
    raw = read_json(epoch.requeue)
    return bool(raw) and not raw["refused"]


def outcome(epoch: Epoch) -> Verdict | None:
    """How a start ended; where it meant its job to go on and Slurm refused, that, and what to do instead."""
    verdict, raw = epoch.verdict, read_json(epoch.requeue)
    if verdict is None or not raw or not raw["refused"]:
        return verdict
    return replace(verdict, reason=f"{verdict.reason}; Slurm did not requeue it: {raw['refused']}", remedy=AGAIN)


def carry_out(epoch: Epoch, job: SlurmJob, reason: str) -> str:
    """Keep the reason, then ask Slurm; why it refused, or nothing. Slurm may end this process at once."""
    kept: dict[str, Any] = {
        "job": {"id": job.id, "cluster": job.cluster, "restart": job.restart, "submission": job.submission}
    }
    kept |= {"reason": reason, "time": time.time(), "refused": ""}
    write_atomically(epoch.requeue, json.dumps(kept))
    refused = jobs.requeue(job.id)
    if refused:
        write_atomically(epoch.requeue, json.dumps(kept | {"refused": refused}))
    return refused
