"""Describe what was handed to Slurm for a run, and which of its jobs a process is part of."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path

from hpcens.files import checked, read_as

DEFAULT_REQUEUES = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """One `hpcens submit`. Job ids are not enough: a new cluster counts from 1 again.

    id         random
    jobs       ids of its jobs: the first, then those that take over where it is killed
    requeues   how often its jobs may put themselves back into the queue
    folder     submitit's files and the job's logs
    epoch      number of the newest start before it, 0 where there was none
    submitted  seconds since 1970
    rows       to score
    refused    why Slurm took none of its jobs; empty where it did
    made_of    member, or the rule → its digests when it was submitted
    """

    id: str
    jobs: tuple[str, ...]
    requeues: int
    folder: str
    epoch: int
    submitted: float
    rows: int = 0
    refused: str = ""
    made_of: dict[str, dict[str, str]] = field(default_factory=dict)

    def to_json(self) -> str:
        """Write the submission as JSON."""
        return json.dumps(asdict(self), indent=1)

    @staticmethod
    def load(path: Path) -> Submission | None:
        """Return the submission; None where there is none."""
        return read_as(path, lambda raw: checked(Submission(**raw | {"jobs": tuple(map(str, raw["jobs"]))})))


@dataclass(frozen=True, slots=True)
class SlurmJob:
    """A job of Slurm's.

    id          its number, which another cluster may use too
    cluster     the cluster's name; empty where Slurm does not say
    restart     how often it was requeued
    submission  id of the submission that made it; empty where none did
    element     its number within a job array; empty where it is in none
    """

    id: str
    cluster: str
    restart: int
    submission: str = ""
    element: str = ""

    @staticmethod
    def here(submission: str = "") -> SlurmJob | None:
        """Return the job this process runs in, from the environment of a step; None outside of one."""
        number = os.environ.get("SLURM_JOB_ID")
        if number is None or "SLURM_PROCID" not in os.environ:
            return None
        restart = int(os.environ.get("SLURM_RESTART_COUNT") or "0")
        element = os.environ.get("SLURM_ARRAY_TASK_ID", "")
        return SlurmJob(number, os.environ.get("SLURM_CLUSTER_NAME", ""), restart, submission, element)

    @property
    def name(self) -> str:
        """What a request to end its starts calls it by: its submission, or itself where there is none."""
        return self.submission or f"{self.cluster}:{self.id}"

    def same(self, other: SlurmJob | None) -> bool:
        """Whether another one is of the same submission, or the same job where there is none.

        Of an array's jobs only the same element is: the others live beside it.
        """
        if other is None or self.element != other.element:
            return False
        if self.submission or other.submission:
            return self.submission == other.submission
        return (self.id, self.cluster) == (other.id, other.cluster)

    def succeeds(self, other: SlurmJob | None) -> bool:
        """Whether Slurm started this job in the place of the other: whatever is left of that is obsolete."""
        if other is None or not self.same(other):
            return False
        return (self.id, self.restart) != (other.id, other.restart)
