"""Planning problems: random ones, each the same for its seed in every process, and ones in numbers one can follow."""

import math
import random
from dataclasses import replace
from itertools import product

from hpcens.allocation import Problem
from hpcens.vocabulary import BatchProfile, Device, Profile

SIZES = (8, 16, 32, 64, 128)
GIB = 1 << 30
MIB = 1 << 20
ROW = {"row_bytes": 10_000, "output_bytes": 40}


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
    return Problem(devices=tuple(found), members=names, profiles=profiles, **ROW, held=held)


def _log_uniform(draw, low, high):
    return min(high, int(math.exp(draw.uniform(math.log(low), math.log(high + 1)))))


def problem(seed, *, devices=4, members=3, kinds=1, memory=64 * GIB, sizes=SIZES, load_seconds=0.1):
    """A random instance as in the prototype: peak rates 50–1000 rows/s, half of them reached at batch 4–24."""
    draw = random.Random(seed)
    found = tuple(Device(f"h/{i}", "cuda", f"kind{i % kinds}", memory, 1, i) for i in range(devices))
    profiles = {}
    for m in range(members):
        weights, half = int(draw.uniform(0.2, 2) * GIB), draw.uniform(4, 24)
        for k in range(min(kinds, devices)):
            peak = draw.uniform(50, 1000)
            batches = {b: BatchProfile(b, peak * b / (b + half), b * (8 << 20), 0.01) for b in sizes}
            profiles[f"kind{k}", f"m{m}", "eager"] = Profile(weights, GIB // 2, load_seconds, (10,), batches, sizes)
    names = tuple(f"m{i}" for i in range(members))
    return Problem(devices=found, members=names, profiles=profiles, **ROW, seconds=0.8)


def mixed(seed, memories=(20, 40, 80)):
    """A small instance without any order in it: families, memories, runtimes and batches that are missing."""
    draw = random.Random(seed)
    count, kinds = draw.randint(1, 3), draw.randint(1, 2)
    memory, runtimes = draw.choice(memories), draw.choice((("eager",), ("compiled", "eager")))
    members = tuple(f"m{m}" for m in range(draw.randint(1, 2 if count == 3 else 3)))
    found = tuple(
        Device(f"h/{i}", draw.choice(("cpu", "cuda")), f"kind{i % kinds}", int(memory * draw.uniform(0.6, 1.2)))
        for i in range(count)
    )
    profiles = {}
    for kind, member, runtime in product((f"kind{k}" for k in range(kinds)), members, runtimes):
        if draw.random() < 0.9:
            sizes = [b for b in (4, 16) if draw.random() < 0.9]
            batches = {b: BatchProfile(b, draw.uniform(1, 100), int(b * draw.uniform(0.1, 1.5)), 0.0) for b in sizes}
            profiles[kind, member, runtime] = Profile(draw.randint(1, 20), draw.randint(1, 6), 0.1, (2,), batches)
    return Problem(devices=found, members=members, profiles=profiles, **ROW, held=draw.randint(0, 4), seconds=0.8)


def with_workspace(of, row_bytes):
    """The problem with activations of this many bytes a row."""
    profiles = {
        key: replace(p, batches={b: replace(q, workspace=b * row_bytes) for b, q in p.batches.items()})
        for key, p in of.profiles.items()
    }
    return replace(of, profiles=profiles)


def given_problem(rows, *, devices, weights=1, workspace=0, context=0, load_seconds=0.0, **more):
    """A problem in numbers one can follow: (kind, member) → {batch: rows/s}."""
    profiles = {
        (kind, member, "eager"): Profile(
            weights, context, load_seconds, (1,), {b: BatchProfile(b, s, b * workspace, 0.0) for b, s in of.items()}
        )
        for (kind, member), of in rows.items()
    }
    members = tuple(dict.fromkeys(member for _, member in rows))
    return Problem(devices=devices, members=members, profiles=profiles, **ROW, **more)


def on(*kinds, memory=1000, family="cuda"):
    return tuple(Device(f"h/{family}{i}", family, kind, memory) for i, kind in enumerate(kinds))
