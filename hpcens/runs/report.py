"""Keep what a start did beside what its plan predicted, as `report.json`. The format is described in `hpcens.runs`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from hpcens.files import checked, read_as, sealed, write_atomically
from hpcens.vocabulary import Cause

FORMAT = 3
"""Of the reports that are written. Format 2 has no `spot_checks`. In format 1, which did not say so, instances that
scored nothing have neither `rows` nor `measured_speed` either."""


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
    group           name of the group of members in which it ran as one; empty where it ran by itself
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
    group: str = ""

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
    device_peak  bytes in use at most of the memory that a GPU has of its own; 0: not known, or it has none
    """

    role: str
    spent: Mapping[str, float]
    syncing: float
    cpu_seconds: float
    peak_bytes: int
    device_peak: int = 0

    def as_dict(self) -> dict[str, Any]:
        """Return it as it is written."""
        tree = asdict(self)
        if not self.device_peak:
            del tree["device_peak"]
        return tree


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


@dataclass(frozen=True, slots=True)
class SpotCheck:
    """Rows that a member's runtime scored and eager too.

    rows       how many
    beyond     of them, that differ by more than `plan.tolerance`, or than rounding in the precision explains
    worst      the most by which one differs, see `runtimes.agreement`
    precision  in which both computed
    """

    member: str
    runtime: str
    rows: int
    beyond: int
    worst: float
    precision: str = "float32"

    def as_dict(self) -> dict[str, Any]:
        """Return the check as JSON's values; a precision of float32 is not said."""
        tree = asdict(self)
        if self.precision == "float32":
            del tree["precision"]
        return tree


@dataclass(frozen=True, slots=True)
class StageReport:
    """A stage of a cascade.

    members   that score in it
    rows      that it scored, over all starts
    expected  part of all rows that it was planned for, 0 … 1
    """

    members: tuple[str, ...]
    rows: int
    expected: float


def in_all(checks: Iterable[SpotCheck]) -> tuple[SpotCheck, ...]:
    """Add up the spot checks of several devices, by member and runtime."""
    sums: dict[tuple[str, str], SpotCheck] = {}
    for check in checks:
        key = check.member, check.runtime
        before = sums.get(key, replace(check, rows=0, beyond=0, worst=0.0))
        rows, beyond = before.rows + check.rows, before.beyond + check.beyond
        sums[key] = replace(check, rows=rows, beyond=beyond, worst=max(before.worst, check.worst))
    return tuple(sums.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a start did.

    rows           of the dataset that were scored in this start
    seconds        from the first batch until the last row was durable
    bottleneck     the role that was busy most, in words; empty where nothing was scored
    syncing_share  part of the seconds in which reducers waited for the disk
    idle           names of devices on which no rank computed
    masked         by member and cause, over all starts
    spot_checks    by member and runtime, in this start
    stages         of a cascade, once its last has begun; else none
    broken         what devices said that broke in this start
    taken          rows that others were handed in their place, each counted once for each member
    sharing        devices that read rows where readers put them; the others got copies; None where that is not known
    unregistered   GPUs on whose way rows were copied once more, each with the reason in words
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
    spot_checks: tuple[SpotCheck, ...] = ()
    stages: tuple[StageReport, ...] = ()
    broken: tuple[str, ...] = ()
    taken: int = 0
    sharing: int | None = None
    unregistered: tuple[str, ...] = ()

    def to_json(self) -> str:
        """Write the report as JSON, with the version of its format."""
        tree = (
            {"format": FORMAT}
            | asdict(self)
            | {
                "ranks": [rank.as_dict() for rank in self.ranks],
                "spot_checks": [check.as_dict() for check in self.spot_checks],
            }
        )
        if not self.stages:
            del tree["stages"]
        if not self.broken:
            del tree["broken"], tree["taken"]
        for instance in tree["instances"]:
            if not instance["group"]:
                del instance["group"]
        if self.sharing is None:
            del tree["sharing"]
        if not self.unregistered:
            del tree["unregistered"]
        return json.dumps(tree, indent=1)

    def save(self, path: Path) -> None:
        """Write the report, whole or not at all."""
        write_atomically(path, sealed(self.to_json()))

    @staticmethod
    def load(path: Path) -> Report | None:
        """Return the report; None where there is none (yet), or it has a later format."""
        return read_as(path, _report)


def _report(raw: dict[str, Any]) -> Report:
    """Build a report. Raises what JSON of the wrong kind raises, ValueError where it has a later format."""
    if raw.pop("format", 1) > FORMAT:
        raise ValueError("a later format")
    return checked(
        Report(
            instances=tuple(checked(InstanceReport(**instance)) for instance in raw.pop("instances")),
            idle=tuple(map(str, raw.pop("idle"))),
            unregistered=tuple(map(str, raw.pop("unregistered", ()))),
            ranks=tuple(checked(RankReport(**rank)) for rank in raw.pop("ranks")),
            broken=tuple(map(str, raw.pop("broken", ()))),
            masked=tuple(checked(MaskedRows(**masked)) for masked in raw.pop("masked")),
            spot_checks=tuple(checked(SpotCheck(**check)) for check in raw.pop("spot_checks", ())),
            stages=tuple(
                checked(StageReport(**stage | {"members": tuple(stage["members"])})) for stage in raw.pop("stages", ())
            ),
            **raw,
        )
    )
