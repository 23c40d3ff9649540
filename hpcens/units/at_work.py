"""Show which worlds of many units live: where each is, what it works on, and how fast."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from hpcens.runs import ProgressMade, RunDirectory, recent
from hpcens.units.claims import Attempt, Standing
from hpcens.units.directory import UnitsDirectory
from hpcens.units.listing import Unit
from hpcens.units.worlds import World, load_world


@dataclass(frozen=True, slots=True)
class WorldStatus:
    """A world that lives.

    host     where it is; job: Slurm's, an element as ARRAY_NUMBER; empty outside of one
    unit     that it works on, in words; empty between two
    done     units that it has done
    rows_per_second  of those; before the first of them, of what it works on
    seconds  since it began; unit_seconds: since it claimed what it works on
    """

    id: str
    host: str
    job: str
    unit: str
    done: int
    rows_per_second: float
    seconds: float
    unit_seconds: float


@dataclass(slots=True)
class Pace:
    """What a world has done: rows, bytes and seconds of whole units, and what it is at.

    rows_per_second, bytes_per_second  of the unit that it is at, as far as its progress tells
    """

    units: int = 0
    rows: int = 0
    bytes: int = 0
    seconds: float = 0.0
    rows_per_second: float = 0.0
    bytes_per_second: float = 0.0

    @property
    def speeds(self) -> tuple[float, float]:
        """Rows/s and bytes/s."""
        if self.seconds:
            return self.rows / self.seconds, self.bytes / self.seconds
        return self.rows_per_second, self.bytes_per_second


@dataclass(frozen=True, slots=True)
class AtWork:
    """What the worlds that live are at.

    paces    world → what it has done
    current  world → the unit that it works on, and its attempt at it
    """

    paces: dict[str, Pace] = field(default_factory=dict)
    current: dict[str, tuple[Unit, Attempt]] = field(default_factory=dict)


def at_work(
    directory: UnitsDirectory, units: Mapping[str, Unit], standings: Mapping[str, Standing], living: Collection[str]
) -> AtWork:
    """Return what the worlds that live are at, each by its own clock.

    units, standings  key → unit, and how it stands; of all units of the newest list
    """
    found = AtWork({name: Pace() for name in living})
    for key, standing in standings.items():
        if standing.state == "held" and standing.last is not None:
            world, _ = directory.claimant(standing.last)
            if world in living:
                found.current[world] = units[key], standing.last
        for attempt in standing.attempts:
            if attempt.kind == "done" and (outcome := directory.outcome(attempt)) is not None:
                pace = found.paces.get(directory.claimant(attempt)[0])
                if pace is not None and outcome.seconds:
                    pace.units += 1
                    pace.rows += outcome.rows
                    pace.bytes += units[key].bytes
                    pace.seconds += outcome.seconds
    for world, (unit, _) in found.current.items():
        pace = found.paces[world]
        if not pace.seconds:
            pace.rows_per_second, pace.bytes_per_second = _of_progress(unit)
    return found


def _of_progress(unit: Unit) -> tuple[float, float]:
    """Return rows/s and bytes/s of what a world works on; 0 where there is too little progress to tell."""
    progress = progress_of(unit)
    if len(progress) < 2:
        return 0.0, 0.0
    first, last = progress[0], progress[-1]
    speed = max(0.0, (last.rows_passed - first.rows_passed) / max(1e-9, last.time - first.time))
    return speed, speed * unit.bytes / max(1, last.of * last.phases)


def progress_of(unit: Unit) -> list[ProgressMade]:
    """Return the progress that the newest start of a unit has made, as far as that is in the tail of its events."""
    epoch = RunDirectory.of(Path(unit.output)).newest
    events = recent(epoch.events) if epoch is not None else []
    return [event for event in events if isinstance(event, ProgressMade)]


def world_statuses(directory: UnitsDirectory, found: AtWork) -> tuple[WorldStatus, ...]:
    """Return the worlds that live, those that work before the others, by host and job."""
    now = time.time()
    statuses = []
    for name, pace in found.paces.items():
        world = load_world(directory.worlds / name)
        if world is None:
            continue
        unit, attempt = found.current.get(name, (None, None))
        began = (directory.worlds / name / "world.json").stat().st_mtime
        since = directory.began(attempt) if attempt is not None else now
        statuses.append(
            WorldStatus(
                id=name,
                host=world.process.host,
                job=_job(world),
                unit=unit.name if unit is not None else "",
                done=pace.units,
                rows_per_second=pace.speeds[0],
                seconds=max(0.0, now - began),
                unit_seconds=max(0.0, now - since),
            )
        )
    return tuple(sorted(statuses, key=lambda own: (not own.unit, own.host, own.job, own.id)))


def _job(world: World) -> str:
    if world.job is None:
        return ""
    return world.job.element if "_" in world.job.element else world.job.id
