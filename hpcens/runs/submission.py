"""Submissions: what was handed to Slurm for a run, and which of its jobs a process is part of."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

DEFAULT_REQUEUES = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """One `hpcens submit`. Job ids are not enough: a new cluster counts from 1 again.

    id        random
    jobs      ids of its jobs: the first, then those that take over where it is killed
    requeues  how often its jobs may put themselves back into the queue
    folder    submitit's files and the job's logs
    epoch     number of the newest epoch before it
    """

    id: str
    jobs: tuple[str, ...]
    requeues: int
    folder: str
    epoch: int
    submitted: float


@dataclass(frozen=True, slots=True)
class SlurmJob:
    """The job this process runs in. submission: id of the one that made it; empty if none did."""

    id: str
    cluster: str
    restart: int
    submission: str = ""

    @staticmethod
    def here(submission: str = "") -> SlurmJob | None:
        """From the environment of a step; None outside of one."""
        number = os.environ.get("SLURM_JOB_ID")
        if number is None or "SLURM_PROCID" not in os.environ:
            return None
        restart = int(os.environ.get("SLURM_RESTART_COUNT") or "0")
        return SlurmJob(number, os.environ.get("SLURM_CLUSTER_NAME", ""), restart, submission)

    def same(self, other: Mapping[str, Any] | None) -> bool:
        """Whether another one, as a dict, is of the same submission, or the same job where there is none."""
        if not other:
            return False
        if self.submission or other["submission"]:
            return bool(self.submission == other["submission"])
        return (self.id, self.cluster) == (other["id"], other["cluster"])

    def succeeds(self, other: Mapping[str, Any] | None) -> bool:
        """Whether Slurm started this job in the place of the other: whatever is left of that is obsolete."""
        if not other or not self.same(other):
            return False
        return (self.id, self.restart) != (other["id"], other["restart"])
