"""Claim a start: who began it, when, and as which of Slurm's jobs. The format is described in `hpcens.runs`."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hpcens.files import checked, read_as
from hpcens.processes import Process
from hpcens.runs.submission import SlurmJob


@dataclass(frozen=True, slots=True)
class Claim:
    """What a start leaves in its folder before anything else.

    epoch    number of the start
    id       random: a number may be that of another run directory's start
    began    seconds since 1970
    job      Slurm's job; None outside of one
    announcement  id of what announced the start, empty where nothing did
    process  the launcher, or within a job the rank that prepared the start
    """

    epoch: int
    id: str
    began: float
    job: SlurmJob | None
    process: Process
    announcement: str = ""

    def to_json(self) -> str:
        """Write the claim as JSON: the process that holds the run, and its job."""
        job = self.job and asdict(self.job)
        own = {"epoch": self.epoch, "id": self.id, "began": self.began, "announcement": self.announcement, "job": job}
        return json.dumps(own | asdict(self.process), indent=1)

    @property
    def names(self) -> frozenset[str]:
        """What a request to end the start may call it by."""
        return frozenset({self.id, self.announcement, self.job.name if self.job else ""} - {""})

    @staticmethod
    def load(path: Path) -> Claim | None:
        """Return the claim; None where there is none (yet)."""
        return read_as(path, _claim)


def _claim(raw: dict[str, Any]) -> Claim:
    job, announcement = raw.pop("job"), raw.pop("announcement", "")
    slurm = checked(SlurmJob(**job)) if job else None
    number, name, began = raw.pop("epoch"), raw.pop("id"), raw.pop("began")
    return checked(Claim(number, name, began, slurm, checked(Process(**raw)), announcement))
