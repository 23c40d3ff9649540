"""Random planning problems, each the same for its seed in every process."""

import math
import random

from hpcens.allocation.problem import Problem
from hpcens.vocabulary import BatchProfile, Device, Profile

SIZES = (8, 16, 32, 64, 128)
GIB = 1 << 30
MIB = 1 << 20


def drawn(seed, *, tight, most_members=64, most_devices=512):
    """1–64 members, 1–4 kinds, 1–512 devices, few more often than many.

    A member has 0.2–2 GiB of weights and 2–80 MiB of activations a row. On a kind, it reaches half
    its peak of 50–1000 rows/s at batch 4–24, and half of the kinds slow down beyond some batch.
    Loose: a device has 300 GiB. Tight: the smallest kind has 2–150 % more memory than the largest
    member needs alone or, where that is more, so much that 75–95 % of it are weights when each
    member is loaded once; other kinds have up to half as much again.
    """
    draw = random.Random(f"{seed} {tight}")
    members = _log_uniform(draw, 1, most_members)
    devices = _log_uniform(draw, 1, most_devices)
    kinds = min(devices, draw.randint(1, 4))
    names = tuple(f"m{m}" for m in range(members))
    weights = {m: int(math.exp(draw.uniform(math.log(0.2), math.log(2))) * GIB) for m in names}
    row = {m: int(math.exp(draw.uniform(math.log(2), math.log(80))) * MIB) for m in names}
    context, held = GIB // 2, 64 * MIB
    cuts = sorted(draw.sample(range(1, devices), kinds - 1))
    counts = [b - a for a, b in zip([0, *cuts], [*cuts, devices], strict=True)]
    memory = [300 * GIB] * kinds
    if tight:
        alone = draw.uniform(1.02, 2.5) * max(weights[m] + SIZES[0] * row[m] for m in names)
        part = sum(weights.values()) / devices / draw.uniform(0.75, 0.95) + SIZES[0] * max(row.values())
        least = max(alone, part)
        memory = [int(least * (draw.uniform(1, 1.5) if k else 1) + context + held) for k in range(kinds)]
    found, profiles = [], {}
    for k in range(kinds):
        found += [Device(f"h{k}/cuda{i}", "cuda", f"kind{k}", memory[k], 1, i, f"h{k}") for i in range(counts[k])]
        for m in names:
            peak, half = draw.uniform(50, 1000), draw.uniform(4, 24)
            slows = draw.choice((math.inf, draw.uniform(64, 512)))
            rate = {b: peak * b / (b + half) / (1 + (b / slows) ** 2) for b in SIZES}
            batches = {b: BatchProfile(b, rate[b], b * row[m], 0.01) for b in SIZES}
            profiles[f"kind{k}", m, "eager"] = Profile(weights[m], context, 5.0, (10,), batches, SIZES)
    row = {"row_bytes": 10_000, "output_bytes": 40}
    return Problem(devices=tuple(found), members=names, profiles=profiles, **row, held=held)


def _log_uniform(draw, low, high):
    return min(high, int(math.exp(draw.uniform(math.log(low), math.log(high + 1)))))
