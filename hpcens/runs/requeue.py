"""Put a job that was warned of its end back into the queue, once everything is durable.

Only the reader does it, after the reducer's last sync and the verdict, so that nothing is lost when Slurm then ends
the ranks. USR2 is such a warning, and TERM where Slurm says that the job is preempted: one that ends within the grace
time is not requeued by Slurm. TERM alone (scancel) asks for an end, not for more.
"""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Collection
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path

from hpcens.errors import INCOMPLETE
from hpcens.files import checked, read_as, sealed, write_atomically
from hpcens.runs.directory import RunDirectory
from hpcens.runs.epoch import AGAIN, Epoch, Verdict
from hpcens.runs.events import ProfilingEnded, ProgressMade, read_events
from hpcens.runs.submission import DEFAULT_REQUEUES, SlurmJob
from hpcens.scheduler import jobs
from hpcens.scheduler.jobs import Answer

WARNED = signal.SIGUSR2
PREEMPTED = "preempted"
_NEAR_LIMIT_SECONDS = 15 * 60.0


@dataclass(frozen=True, slots=True)
class Requeue:
    """What a start left where it put its job back into the queue. The format is described in `hpcens.runs`.

    job      that was to go on
    reason   why, in words
    time     seconds since 1970
    refused  why Slurm did not do it; empty where it did
    """

    job: SlurmJob
    reason: str
    time: float
    refused: str = ""

    def to_json(self) -> str:
        """Write it as JSON."""
        return json.dumps(asdict(self))

    @staticmethod
    def load(path: Path) -> Requeue | None:
        """Return what a start left; None where it put nothing back."""
        return read_as(path, lambda raw: checked(Requeue(**raw | {"job": checked(SlurmJob(**raw["job"]))})))


def requeues(run: RunDirectory, job: SlurmJob | None = None) -> list[str]:
    """Return why jobs of the run were put back, the oldest first.

    job  where given, only of this job and of the others of its submission
    """
    records = (Requeue.load(epoch.requeue) for epoch in run.epochs())
    accepted = (record for record in records if record is not None and not record.refused)
    return [record.reason for record in accepted if job is None or job.same(record.job)][::-1]


def why(signals: Collection[int], answer: Answer | None) -> str:
    """Say what a drain's signals mean, in words; empty where they say no more than their name."""
    if answer is not None and answer.preempted:
        return PREEMPTED
    if WARNED in signals:
        near = answer is None or not answer.ends or answer.ends - time.time() < _NEAR_LIMIT_SECONDS
        return "the time limit is near" if near else "asked to make room (USR2)"
    if signal.SIGTERM in signals and answer is not None and answer.state == "CANCELLED":
        return "cancelled"
    return ""


def decide(
    verdict: Verdict, signals: Collection[int], reason: str, before: int, bound: int, *, fruitless: bool = False
) -> tuple[Verdict, bool]:
    """Decide whether the job of a drained start is requeued; return the verdict that says so, and whether it is.

    reason         what `why` made of the signals
    before, bound  how often the job was requeued, and how often it may be
    fruitless      whether this start and the one before gained nothing
    """
    if verdict.code != INCOMPLETE or not (WARNED in signals or reason == PREEMPTED):
        return verdict, False
    if fruitless and reason != PREEMPTED:
        reason = f"{verdict.reason}; two starts in a row ended without a new durable row"
        remedy = "the time limit is too short for a start: give it more, --slurm time=…, and run the same command again"
        return replace(verdict, reason=reason, remedy=remedy), False
    if before >= bound:
        remedy = "run the same command again; to allow more: slurm.requeues in the YAML"
        reason = f"{verdict.reason}; requeued {before} times already, as often as allowed"
        return replace(verdict, reason=reason, remedy=remedy), False
    return replace(verdict, remedy=f"none needed: the job continues by itself (requeue {before + 1} of {bound})"), True


def interpret(run: RunDirectory, job: SlurmJob, verdict: Verdict, signals: Collection[int]) -> tuple[Verdict, str]:
    """Ask Slurm what a drained start's signals meant; return the verdict in these words, and why to requeue its job.

    The reason is empty where the job is not to be requeued.
    """
    answer = jobs.ask(job.id)
    if reason := why(signals, answer):
        verdict = replace(verdict, reason=f"{reason}: {verdict.reason.partition(': ')[2]}")
    submission = run.submission
    bound = submission.requeues if submission and submission.id == job.submission else DEFAULT_REQUEUES
    fruitless = _fruitless(run, job)
    verdict, again = decide(verdict, signals, reason, len(requeues(run, job)), bound, fruitless=fruitless)
    return verdict, reason if again else ""


def _fruitless(run: RunDirectory, job: SlurmJob) -> bool:
    """Whether neither the newest start gained anything nor the one before, which put the same job back."""
    newest, before = [*islice(run.epochs(), 2), None, None][:2]
    record = Requeue.load(before.requeue) if before is not None else None
    if newest is None or before is None or record is None or record.refused or not job.same(record.job):
        return False
    return not gained(newest) and not gained(before)


def gained(epoch: Epoch) -> bool:
    """Whether a start made rows durable, or measured members, which the next need not do again."""
    first: ProgressMade | None = None
    for _, event in read_events(epoch.events):
        if isinstance(event, ProfilingEnded):
            return True
        if isinstance(event, ProgressMade):
            first = first or event
            if event.rows_passed > first.rows_passed:
                return True
    return False


def continues(epoch: Epoch) -> bool:
    """Whether a start put its job back into the queue."""
    record = Requeue.load(epoch.requeue)
    return record is not None and not record.refused


def outcome(epoch: Epoch) -> Verdict | None:
    """Return how a start ended; where it meant its job to go on and Slurm refused, that, and what to do instead."""
    verdict, record = epoch.verdict, Requeue.load(epoch.requeue)
    if verdict is None or record is None or not record.refused:
        return verdict
    return replace(verdict, reason=f"{verdict.reason}; Slurm did not requeue it: {record.refused}", remedy=AGAIN)


def carry_out(epoch: Epoch, job: SlurmJob, reason: str) -> str:
    """Keep the reason, then ask Slurm; return why it refused, or nothing. Slurm may end this process at once."""
    record = Requeue(job, reason, time.time())
    write_atomically(epoch.requeue, sealed(record.to_json()))
    refused = jobs.requeue(job.id)
    if refused:
        write_atomically(epoch.requeue, sealed(replace(record, refused=refused).to_json()))
    return refused
