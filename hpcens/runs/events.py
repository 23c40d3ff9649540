"""Record what happened in a start, a JSON object a line, for whoever watches it through files alone.

The format is described in `hpcens.runs`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, fields
from pathlib import Path
from time import time as now
from typing import Any

from hpcens.files import MALFORMED, checked

FORMAT = 2
"""Of the lines that are written. In format 1 they did not say so, and differ in nothing else."""


@dataclass(frozen=True, slots=True)
class WorldFormed:
    """The ranks found each other.

    library  name and version of the MPI library
    nodes    node → ranks on it
    wheel    whether MPI came as a Python package, though there are several nodes
    idle     names of devices on which no rank computes
    time     seconds since 1970, as of every event
    """

    library: str
    nodes: Mapping[str, int]
    wheel: bool
    idle: tuple[str, ...]
    time: float = field(default_factory=now, kw_only=True)


@dataclass(frozen=True, slots=True)
class ProfilingBegan:
    """Profiles are missing, and ranks begin to measure them.

    members  to be measured, each counted once for every rank that measures it
    why      which of them, and what is not known of them yet, in words
    """

    members: int
    why: tuple[str, ...] = ()
    time: float = field(default_factory=now, kw_only=True)


@dataclass(frozen=True, slots=True)
class ProfilingEnded:
    """All missing profiles are measured."""

    time: float = field(default_factory=now, kw_only=True)


@dataclass(frozen=True, slots=True)
class PlanMade:
    """The plan is in the folder of the start.

    throughput  rows/s it predicts
    bound       rows/s that no plan can exceed
    limit       what limits the bound, in words
    """

    throughput: float
    bound: float
    limit: str
    time: float = field(default_factory=now, kw_only=True)


@dataclass(frozen=True, slots=True)
class DrainBegan:
    """The start was asked to stop, and finishes what is under way.

    reason  who or what asked, in words
    """

    reason: str
    time: float = field(default_factory=now, kw_only=True)


@dataclass(frozen=True, slots=True)
class ProgressMade:
    """Rows became durable; the first of a phase counts those that earlier starts made so.

    rows       that are durable in this phase
    of         rows to score in each phase
    in_flight  segments that are handed out and not yet durable
    phase      number of the phase, from 1
    phases     how many there are
    broken     what devices said that broke in this start
    taken      rows that others were handed in their place so far, each counted once for each member
    """

    rows: int
    of: int
    in_flight: int = 0
    phase: int = 1
    phases: int = 1
    broken: tuple[str, ...] = ()
    taken: int = 0
    time: float = field(default_factory=now, kw_only=True)

    @property
    def rows_passed(self) -> int:
        """Rows that are durable, counted once in each phase."""
        return self.rows + (self.phase - 1) * self.of


Event = WorldFormed | ProfilingBegan | ProfilingEnded | PlanMade | DrainBegan | ProgressMade

KINDS: Mapping[str, type[Event]] = {
    "world": WorldFormed,
    "profiling": ProfilingBegan,
    "profiled": ProfilingEnded,
    "planned": PlanMade,
    "draining": DrainBegan,
    "progress": ProgressMade,
}
"""What a line calls an event → its class."""
_NAMES = {kind: name for name, kind in KINDS.items()}


class Events:
    """Appends to the events of a start; one writer."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a", buffering=1)

    def add(self, event: Event) -> None:
        """Append an event as one line of JSON."""
        values = {entry.name: getattr(event, entry.name) for entry in fields(event)}
        line = {"format": FORMAT, "time": values.pop("time"), "event": _NAMES[type(event)]} | values
        self._file.write(json.dumps(line) + "\n")

    def close(self) -> None:
        """Close the file of events."""
        self._file.close()


def read_events(path: Path, start: int = 0) -> Iterator[tuple[int, Event]]:
    """Yield the whole events from a byte position on, each with the position behind it."""
    try:
        with path.open("rb") as file:
            file.seek(start)
            for line in file:
                if not line.endswith(b"\n"):
                    return
                start += len(line)
                if (event := _parse(line)) is not None:
                    yield start, event
    except OSError:
        return


def recent(path: Path, tail: int = 1 << 14) -> list[Event]:
    """Return the newest events, oldest first, read from the last `tail` bytes of the file alone."""
    try:
        size = path.stat().st_size
    except OSError:
        return []
    begin = max(0, size - tail)
    with path.open("rb") as file:
        file.seek(begin)
        lines = file.read().split(b"\n")[1 if begin else 0 : -1]
    return [event for line in lines if (event := _parse(line)) is not None]


def _parse(line: bytes) -> Event | None:
    """Return the event of a line, without fields that only a later format knows; None where it is unknown."""
    with suppress(*MALFORMED):  # a later format may do without a field
        raw: dict[str, Any] = json.loads(line)
        kind = KINDS[raw["event"]]
        names = {entry.name for entry in fields(kind)}
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in raw.items() if name in names
        }
        return checked(kind(**values))
    return None
