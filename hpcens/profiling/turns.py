"""The rematch: speeds that were measured one after another and lie close are measured again, in turns.

A machine drifts by more between two measurements than near ties lie apart; within a turn it does not.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace

from hpcens.vocabulary import Profile

# Speeds within this part of the best may owe their order to drift.
CLOSE = 0.85
# At most so many: all are held at once.
_MOST = 4

Contender = tuple[str, int]
"""Runtime and batch size."""


def contenders(profiles: Mapping[str, Profile], memory: int) -> tuple[Contender, ...]:
    """Return the runtimes and batch sizes close to the fastest, the fastest first; none where it is alone.

    profiles  runtime → profile of one member on one kind of device
    memory    bytes of the device; those that do not fit beside the faster ones are left out
    """
    speeds = _speeds(profiles)
    best = max(speeds.values(), default=0.0)
    close: list[Contender] = []
    held = 0
    for runtime, batch in sorted(speeds, key=lambda contender: -speeds[contender]):
        profile = profiles[runtime]
        needed = profile.weights + profile.batches[batch].workspace
        if speeds[runtime, batch] < CLOSE * best or len(close) == _MOST:
            break
        if profile.context + held + needed <= memory:
            close.append((runtime, batch))
            held += needed
    return tuple(close) if len(close) > 1 else ()


def settled(profiles: Mapping[str, Profile], turns: Mapping[Contender, Sequence[float]]) -> dict[str, Profile]:
    """Give the profiles the order that the turns have found.

    turns  contender → rows/s, one of every turn
    Only ratios are taken over: their level stays what it was in the middle, so that they compare with the others.
    """
    if not turns:
        return dict(profiles)
    before = _speeds(profiles)
    medians = {contender: statistics.median(speeds) for contender, speeds in turns.items()}
    level = statistics.median(before[contender] / speed for contender, speed in medians.items())
    changed = dict(profiles)
    for (runtime, batch), speed in medians.items():
        profile = changed[runtime]
        measured = replace(profile.batches[batch], rows_per_second=level * speed)
        changed[runtime] = replace(profile, batches={**profile.batches, batch: measured})
    return changed


def decided(turns: Mapping[Contender, Sequence[float]]) -> bool:
    """Return whether the fastest is known: in five turns or more it leads each of the others by two standard errors."""
    speeds = list(turns.values())
    if len(speeds[0]) < 5:
        return False
    lead = max(speeds, key=statistics.median)
    for other in speeds:
        if other is not lead:
            ahead = [mine / theirs - 1 for mine, theirs in zip(lead, other, strict=True)]
            if statistics.mean(ahead) < 2 * statistics.stdev(ahead) / len(ahead) ** 0.5:
                return False
    return True


def _speeds(profiles: Mapping[str, Profile]) -> dict[Contender, float]:
    return {
        (runtime, batch): of.rows_per_second
        for runtime, profile in profiles.items()
        for batch, of in profile.batches.items()
    }
