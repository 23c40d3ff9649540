"""Timing: how many rows a second a hosted member makes, in as few passes as tell it."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Sequence
from typing import Any

from hpcens.engine import Engine
from hpcens.engine.outputs import Outputs
from hpcens.members import Forward
from hpcens.profiling.load import CoreShare
from hpcens.vocabulary import BatchProfile, Device

# Passes at least; no more once their median is known to a part in a hundred.
REPETITIONS = 3
_PRECISION = 0.01
# Of a pass; below, it is no more than what measuring may be wrong by.
_LEAST_SHARED = 0.01
_MOST_SHARED = 0.99


def timed(
    engine: Engine,
    name: str,
    staged: Any,
    batch: int,
    *,
    deadline: float,
    sizes: int,
    workspace: int,
    device: Device,
    forward: Forward,
) -> BatchProfile:
    """Time several passes, until the median is precise or this size's part of the time is used up.

    sizes      how many batch sizes share the time until the deadline
    workspace  bytes that a pass needs
    forward    the member, whose preparation others may share
    """
    share = max(0.02, (deadline - time.perf_counter()) / sizes)
    end = time.perf_counter() + share
    speeds: list[float] = []
    cores = CoreShare()
    while len(speeds) < REPETITIONS or (time.perf_counter() < end and not precise(speeds)):
        began = time.perf_counter()
        engine.run(name, staged)
        speeds.append(batch / (time.perf_counter() - began))
        if time.perf_counter() > deadline:
            break
    middle = statistics.median(speeds)
    share = cores.value(device.cores) if device.family == "cpu" else 1.0  # on others, waiting is no loss
    spread = (max(speeds) - min(speeds)) / middle
    shared, kept = _shared(engine, name, staged, forward) if forward.preparation else (0.0, 0)
    return BatchProfile(batch, middle, workspace + kept, spread, len(speeds), share, shared)


def _shared(engine: Engine, name: str, staged: Any, forward: Forward) -> tuple[float, int]:
    """Return the part of a pass that goes to what others may share, and the bytes that are kept of it for them.

    In turns with passes: a machine drifts between two measurements, not within a turn.
    """
    rows = [staged[place] for place in forward.inputs]
    turns: list[float] = []
    kept = 0
    while len(turns) < REPETITIONS:
        began = time.perf_counter()
        engine.run(name, staged)
        whole, began = time.perf_counter() - began, time.perf_counter()
        values = forward.prepare(rows)
        outputs = Outputs(engine.hardware, name, 1)
        with forward.grad_mode():
            outputs.take(0, next(iter(values.values()))[:1])
            outputs.fetch()  # where it is computed, or is still to be
        turns.append((time.perf_counter() - began) / whole)
        kept = 0 if forward.featuriser is not None else sum(x.nbytes for x in values.values())  # else it was held
    part = min(statistics.median(turns), _MOST_SHARED)
    return part if part >= _LEAST_SHARED else 0.0, kept


def precise(speeds: Sequence[float]) -> bool:
    """Tell whether the median of five or more is known to 1 %, by its standard error: 1.25 σ / √n of a normal law."""
    if len(speeds) < 5:
        return False
    return 1.25 * statistics.stdev(speeds) <= _PRECISION * statistics.median(speeds) * math.sqrt(len(speeds))
