"""Claim a start: who began it, when, and as which of Slurm's jobs. The format is described in `hpcens.runs`."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from hpcens.files import read_json
from hpcens.processes import Process
from hpcens.runs.submission import SlurmJob


@dataclass(frozen=True, slots=True)
class Claim:
    """What a start leaves in its folder before anything else.

    epoch    number of the start
    id       random: a number may be that of another run directory's start
    began    seconds since 1970
    job      Slurm's job; None outside of one
    process  the launcher, or within a job the rank that prepared the start
    """

    epoch: int
    id: str
    began: float
    job: SlurmJob | None
    process: Process

    def to_json(self) -> str:
        job = self.job and asdict(self.job)
        return json.dumps(
            {"epoch": self.epoch, "id": self.id, "began": self.began, "job": job} | asdict(self.process), indent=1
        )

    @staticmethod
    def load(path: Path) -> Claim | None:
        """Return the claim; None where there is none (yet)."""
        raw = read_json(path)
        if raw is None:
            return None
        job = raw.pop("job")
        return Claim(
            raw.pop("epoch"), raw.pop("id"), raw.pop("began"), SlurmJob(**job) if job else None, Process(**raw)
        )
