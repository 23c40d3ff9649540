"""Keep what a start did beside what its plan predicted, as `report.json`. The format is described in `hpcens.runs`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from hpcens.files import read_json, write_atomically
from hpcens.vocabulary import Cause

FORMAT = 2
"""Of the reports that are written. In format 1, which did not say so, instances that scored nothing have neither `rows`
nor `measured_speed`."""


@dataclass(frozen=True, slots=True)
class InstanceReport:
    """One member on one device, as planned and as measured.

    batch           rows of a forward pass
    runtime         the way the member was executed
    speed           rows/s planned for a device that runs nothing else
    share           rows/s that the plan gave this instance
    phase           in which it ran, from 0
    rows            that it scored in this start
    measured_speed  rows/s while it ran; None where it scored nothing
    """

    device: str
    member: str
    batch: int
    runtime: str
    speed: float
    share: float
    phase: int = 0
    rows: int = 0
    measured_speed: float | None = None

    @property
    def seconds(self) -> float:
        """Seconds it computed."""
        return self.rows / self.measured_speed if self.measured_speed else 0.0


@dataclass(frozen=True, slots=True)
class RankReport:
    """What one rank took.

    role         reader, reducer, `device NAME` or parked
    spent        what the rank's own thread did (name of a task, or of a wait) → seconds
    syncing      seconds it waited for the disk
    cpu_seconds  of all its threads
    peak_bytes   of host memory in use, at most
    """

    role: str
    spent: Mapping[str, float]
    syncing: float
    cpu_seconds: float
    peak_bytes: int


@dataclass(frozen=True, slots=True)
class MaskedRows:
    """Rows that a member could not score.

    cause  where the fault lay: the member's input, its output, its preprocessing raised, or what it casts to is too
           narrow
    rows   how many
    first  index of the first of them in the dataset
    """

    member: str
    cause: Cause
    rows: int
    first: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a start did.

    rows           of the dataset that were scored in this start
    seconds        from the first batch until the last row was durable
    bottleneck     the role that was busy most, in words; empty where nothing was scored
    syncing_share  part of the seconds in which reducers waited for the disk
    idle           names of devices on which no rank computed
    masked         by member and cause, over all starts
    """

    rows: int
    seconds: float
    rows_per_second: float
    predicted_rows_per_second: float
    instances: tuple[InstanceReport, ...]
    bottleneck: str
    syncing_share: float
    idle: tuple[str, ...]
    ranks: tuple[RankReport, ...]
    masked: tuple[MaskedRows, ...]

    def to_json(self) -> str:
        return json.dumps({"format": FORMAT} | asdict(self), indent=1)

    def save(self, path: Path) -> None:
        """Write the report, whole or not at all."""
        write_atomically(path, self.to_json())

    @staticmethod
    def load(path: Path) -> Report | None:
        """Return the report; None where there is none (yet), or it has a later format."""
        raw = read_json(path)
        if raw is None or raw.pop("format", 1) > FORMAT:
            return None
        return Report(
            instances=tuple(InstanceReport(**instance) for instance in raw.pop("instances")),
            idle=tuple(raw.pop("idle")),
            ranks=tuple(RankReport(**rank) for rank in raw.pop("ranks")),
            masked=tuple(MaskedRows(**masked) for masked in raw.pop("masked")),
            **raw,
        )
