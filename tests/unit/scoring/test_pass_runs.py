"""Passes in runs of any course: devices, hand-outs, latencies, readers, reducers and retries change no byte."""

import random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.engines import Cpu, hosting
from support.wiring import Wiring
from torch import nn

from hpcens.engine.engine import Engine
from hpcens.roles.dispatch import Shares
from hpcens.specs import PassesSpec
from hpcens.vocabulary import Predict, Segmentation

pytestmark = pytest.mark.usefixtures("one_thread")
SEGMENTATION = Segmentation(61, 7)
MEMBERS = ("a", "b", "plain")
X = np.random.default_rng(0).random((61, 2, 4, 4), np.float32)


def network(seed):
    torch.manual_seed(seed)
    layers = nn.Flatten(), nn.Linear(32, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 3)
    return nn.Sequential(*layers).eval()


def device(batch=3):
    """A device that hosts all members; of its own, as each has the generators of a process."""
    engine = Engine(Cpu().hardware, segment_rows=SEGMENTATION.segment_rows)
    for seed, name in enumerate(MEMBERS):
        more = {"passes": PassesSpec(count=3, seed=5)} if name != "plain" else {}
        held = hosting(Cpu(), batch, space="probabilities", ensemble={"task": "multiclass"},
                       spec={"output": "logits"} | more, **{name: network(seed)})  # fmt: skip
        engine.host(name, held._members[name].forward, batch=batch)
    return engine


def rows_of(segment):
    return (X[slice(*SEGMENTATION.bounds(segment))],)


@pytest.fixture(scope="module")
def alone():
    """Segment → the bytes that one device gives that scores nothing else."""
    torch.set_num_threads(1)
    return {
        segment: tuple(p.values.tobytes() for p in device().predict(Predict(segment, MEMBERS, rows_of(segment))))
        for segment in range(len(SEGMENTATION))
    }


def scored(draw, segments, latency):
    """Segment → the bytes that a run writes, each batch of it by any of up to three devices."""
    count = draw.randint(1, 3)
    devices, engines = tuple(range(10, 10 + count)), [device() for _ in range(count)]
    written = {}

    def write(rank, task):
        written[task.segment] = tuple(values.tobytes() for values in task.stack)

    Wiring(
        segments=segments,
        members=MEMBERS,
        shares=Shares({name: {rank: draw.uniform(0.1, 1) for rank in devices} for name in MEMBERS}),
        devices=devices,
        read=rows_of,
        predict=lambda task: draw.choice(engines).predict(task),
        write=write,
        readers=range(draw.randint(1, 2)),
        reducers=range(5, 5 + draw.randint(1, 2)),
        latency=latency,
    ).run()
    return written


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32))
def test_every_segment_is_the_same_whoever_scores_it_and_whenever(alone, seed):
    """Story: a run dies with some segments durable; the next, of other devices, scores what is missing."""
    draw = random.Random(seed)
    every = list(range(len(SEGMENTATION)))
    durable = sorted(draw.sample(every, draw.randint(0, len(every) - 1)))
    before = scored(draw, durable, lambda *way: draw.uniform(0, 2)) if durable else {}
    after = scored(draw, [s for s in every if s not in durable], lambda *way: draw.uniform(0, 2))
    assert before | after == alone


def test_draws_differ_from_segment_to_segment_and_between_members(alone):
    """Equal rows in two segments get draws of their own; a member without passes gives the same."""
    first, second = ([p.values for p in device().predict(Predict(segment, MEMBERS, rows_of(0)))] for segment in (0, 1))
    assert first[0].tobytes() != second[0].tobytes() and first[1].tobytes() != second[1].tobytes()
    assert first[2].tobytes() == second[2].tobytes() == alone[0][2]
