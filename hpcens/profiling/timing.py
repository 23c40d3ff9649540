"""Timing: how many rows a second a hosted member makes, in as few passes as tell it."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Sequence
from typing import Any

from hpcens.engine import Engine
from hpcens.engine.outputs import Outputs
from hpcens.members import Forward, Prepared
from hpcens.profiling.load import CoreShare
from hpcens.profiling.passes import Passes
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
    began = time.perf_counter()
    end, half = began + share, began + (share / 2 if forward.preparation else share)
    cores, passes = CoreShare(), Passes(engine, name, staged, most=share / 4)
    speeds = [batch / passes.alone] if passes.rows == batch else []
    while len(speeds) < REPETITIONS or (time.perf_counter() < half and not precise(speeds)):
        if speeds and time.perf_counter() > deadline:
            break
        speeds.append(passes.rows / passes.seconds())
    shared, kept = 0.0, 0
    if forward.preparation and batch > 1:  # one row is run as two, and prepared by each member itself
        common, own, kept = _parts(engine, name, staged, forward, end)
        speeds += [batch / (one + other) for one, other in zip(common, own, strict=True)]
        part = min(statistics.median(one / (one + other) for one, other in zip(common, own, strict=True)), _MOST_SHARED)
        shared = part if part >= _LEAST_SHARED else 0.0
    middle = statistics.median(speeds)
    share = cores.value(device.cores) if device.family == "cpu" else 1.0  # on others, waiting is no loss
    spread = (max(speeds) - min(speeds)) / middle
    return BatchProfile(batch, middle, workspace + kept, spread, len(speeds), share, shared)


def _parts(
    engine: Engine, name: str, staged: Any, forward: Forward, end: float
) -> tuple[list[float], list[float], int]:
    """Time what others may share and what is the member's own, in turns, for a machine drifts between two measurements.

    Among many members most of the time is that of their own parts, of which a difference of two long times says little.

    end  time at which there have been turns enough, where it is not sure before
    Returns seconds of both, one of every turn, and the bytes that are kept of a batch for the others.
    """
    rows = [staged[place] for place in forward.inputs]
    common: list[float] = []
    own: list[float] = []
    kept = 0
    while len(own) < REPETITIONS or (time.perf_counter() < end and not (precise(common) and precise(own))):
        began = time.perf_counter()
        values = forward.prepare(rows)
        outputs = Outputs(engine.hardware, name, 1)
        with forward.grad_mode():
            outputs.take(0, next(iter(values.values()))[:1])
            outputs.fetch()  # where it is computed, or is still to be
        common.append(time.perf_counter() - began)
        forward.prepared = Prepared()
        forward.prepared.keep(rows, values)
        began = time.perf_counter()
        try:
            outputs = Outputs(engine.hardware, name, len(rows[0]))
            with forward.surroundings.around(), forward.grad_mode():
                outputs.take(0, forward(*rows))
                outputs.fetch()
        finally:
            forward.prepared = None
        own.append(time.perf_counter() - began)
        kept = 0 if forward.featuriser is not None else sum(x.nbytes for x in values.values())  # else it was held
    return common, own, kept


def precise(speeds: Sequence[float]) -> bool:
    """Tell whether the median of five or more is known to 1 %, by its standard error: 1.25 σ / √n of a normal law."""
    if len(speeds) < 5:
        return False
    return 1.25 * statistics.stdev(speeds) <= _PRECISION * statistics.median(speeds) * math.sqrt(len(speeds))
