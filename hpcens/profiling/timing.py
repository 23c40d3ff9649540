"""Timing: how many rows a second a hosted member makes, in as few passes as tell it."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Sequence
from typing import Any

from hpcens.engine import Engine
from hpcens.profiling.load import CoreShare
from hpcens.vocabulary import BatchProfile, Device

# Passes at least; no more once their median is known to a part in a hundred.
REPETITIONS = 3
_PRECISION = 0.01


def timed(
    engine: Engine, name: str, staged: Any, batch: int, *, deadline: float, sizes: int, workspace: int, device: Device
) -> BatchProfile:
    """Time several passes, until the median is precise or this size's part of the time is used up.

    sizes      how many batch sizes share the time until the deadline
    workspace  bytes that a pass needs
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
    return BatchProfile(batch, middle, workspace, (max(speeds) - min(speeds)) / middle, len(speeds), share)


def precise(speeds: Sequence[float]) -> bool:
    """Tell whether the median of five or more is known to 1 %, by its standard error: 1.25 σ / √n of a normal law."""
    if len(speeds) < 5:
        return False
    return 1.25 * statistics.stdev(speeds) <= _PRECISION * statistics.median(speeds) * math.sqrt(len(speeds))
