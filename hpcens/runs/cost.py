"""Tell what starts cost, and worlds: the nodes and GPUs they held, for as long as they lasted."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpcens.files import checked, read_as
from hpcens.processes import Process
from hpcens.runs.claim import Claim
from hpcens.runs.directory import RunDirectory
from hpcens.runs.epoch import Epoch
from hpcens.runs.events import WorldFormed, read_events, recent


@dataclass(frozen=True, slots=True)
class Cost:
    """Seconds of nodes and of GPUs, added up."""

    node_seconds: float = 0.0
    gpu_seconds: float = 0.0

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.node_seconds + other.node_seconds, self.gpu_seconds + other.gpu_seconds)


@dataclass(frozen=True, slots=True)
class _World:
    """What one world cost. process: that watched over it."""

    process: Process
    cost: Cost


def cost_of_run(run: RunDirectory, *, running: bool = False) -> Cost:
    """Add up what all starts of a run cost, and where worlds shared its dataset, what all of these did.

    running  the newest start goes on until now
    """
    worlds = _worlds_of(run.path / "worlds")
    own = cost_of(run.epochs(), running=running, besides={world.process for world in worlds})
    return sum((world.cost for world in worlds), own)


def cost_of_worlds(folder: Path) -> Cost:
    """Add up what the worlds of a folder cost."""
    return sum((world.cost for world in _worlds_of(folder)), Cost())


def _worlds_of(folder: Path) -> list[_World]:
    """Return what each world cost: one node, from its first word to its last move, pauses between two units too."""
    return [world for path in folder.glob("[0-9a-f]*") if (world := _world_of(path)) is not None]


def _world_of(folder: Path) -> _World | None:
    found = read_as(folder / "world.json", _held)
    moments = [path.stat().st_mtime for name in ("world.json", "beat", "ended") if (path := folder / name).exists()]
    if found is None or not moments:
        return None
    process, gpus = found
    seconds = max(moments) - moments[0]
    return _World(process, Cost(max(0.0, seconds), gpus * max(0.0, seconds)))


def _held(raw: dict[str, Any]) -> tuple[Process, int]:
    return checked(Process(*(raw[name] for name in ("host", "boot", "pid", "born")))), int(raw.get("gpus", 0))


def cost_of(starts: Iterable[Epoch], *, running: bool = False, besides: Collection[Process] = ()) -> Cost:
    """Add up what starts cost, each from its claim to its last event; those whose ranks never met cost nothing.

    running  the first of them goes on until now
    besides  processes whose starts are not counted
    """
    nodes = gpus = 0.0
    for number, epoch in enumerate(starts):
        claim = Claim.load(epoch.claim)
        world = next((event for _, event in read_events(epoch.events) if isinstance(event, WorldFormed)), None)
        if claim is None or world is None or claim.process in besides:
            continue
        last = time.time() if running and not number else max(event.time for event in (world, *recent(epoch.events)))
        seconds = max(0.0, last - claim.began)
        nodes += seconds * len(world.nodes)
        gpus += seconds * (_gpus(epoch) + sum("/cuda" in name for name in world.idle))
    return Cost(nodes, gpus)


def _gpus(epoch: Epoch) -> int:
    """How many GPUs the start's plan has; 0 where it made none."""
    return read_as(epoch.plan, lambda plan: sum(device["family"] == "cuda" for device in plan["devices"])) or 0
