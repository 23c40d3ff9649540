"""Tell what starts cost: the nodes and GPUs they held, for as long as they lasted."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass

from hpcens.files import read_as
from hpcens.runs.claim import Claim
from hpcens.runs.epoch import Epoch
from hpcens.runs.events import WorldFormed, read_events, recent


@dataclass(frozen=True, slots=True)
class Cost:
    """Seconds of nodes and of GPUs, added up."""

    node_seconds: float = 0.0
    gpu_seconds: float = 0.0


def cost_of(starts: Iterable[Epoch], *, running: bool = False) -> Cost:
    """Add up what starts cost, each from its claim to its last event; those whose ranks never met cost nothing.

    running  the first of them goes on until now
    """
    nodes = gpus = 0.0
    for number, epoch in enumerate(starts):
        claim = Claim.load(epoch.claim)
        world = next((event for _, event in read_events(epoch.events) if isinstance(event, WorldFormed)), None)
        if claim is None or world is None:
            continue
        last = time.time() if running and not number else max(event.time for event in (world, *recent(epoch.events)))
        seconds = max(0.0, last - claim.began)
        nodes += seconds * len(world.nodes)
        gpus += seconds * (_gpus(epoch) + sum("/cuda" in name for name in world.idle))
    return Cost(nodes, gpus)


def _gpus(epoch: Epoch) -> int:
    """How many GPUs the start's plan has; 0 where it made none."""
    return read_as(epoch.plan, lambda plan: sum(device["family"] == "cuda" for device in plan["devices"])) or 0
