"""Steadiness: members whose outputs depend on chance, on earlier calls, on time or on the rows beside them."""

import json
import re
import sys
import warnings

import numpy as np
import pytest
import torch
from support.contract import Held
from torch import nn

from hpcens.checks.members import unsteady_members
from hpcens.checks.notes import notes
from hpcens.checks.preflight import check
from hpcens.checks.steadiness import Steadiness, require_no_chance, steadiness_warnings
from hpcens.errors import MemberError, UsageError
from hpcens.specs import MemberSpec

CODE = """
import random, time
import numpy
import torch
from torch import nn
from nets import Linear

class Gives(Linear):
    calls = 0
    kept = None
    def forward(self, x):
        return self.changed(super().forward(x), x)

def giving(function):
    return type("Given", (Gives,), {"changed": function})

Dropping = giving(lambda self, y, x: nn.functional.dropout(y, 0.5))
OfRandom = giving(lambda self, y, x: y * random.random())
OfNumpy = giving(lambda self, y, x: y * float(numpy.random.rand()))
OfTorch = giving(lambda self, y, x: y * torch.rand(1))
Twice = giving(lambda self, y, x: nn.functional.dropout(nn.functional.dropout(y, 0.5), 0.5))
Timed = giving(lambda self, y, x: y * torch.rand(1) * (time.perf_counter() % 1.0))
OfTime = giving(lambda self, y, x: y * (time.perf_counter() % 1.0))
Normalised = giving(lambda self, y, x: y - y.mean(0))
OfSize = giving(lambda self, y, x: y * (1 + 0.1 * len(x)))
Seeded = giving(lambda self, y, x: (torch.manual_seed(0), y * torch.rand(y.shape))[1])

def counts(self, y, x):
    self.calls += 1
    return y * self.calls

def averages(self, y, x):
    mean = y.mean(0) if self.kept is None else 0.9 * self.kept + 0.1 * y.mean(0)
    self.kept = mean
    return y - mean

def remembers(self, y, x):
    before = self.kept
    self.kept = y[-1]
    return y if before is None else y + before

def flickers(self, y, x):
    self.calls += 1
    return y * (1 + 2e-6 * (self.calls % 2))

Counting, Averaging, Remembering, Flickering = map(giving, (counts, averages, remembers, flickers))
"""


@pytest.fixture
def held(project, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    held = Held(project.data(40))
    (project.folder / "own.py").write_text(CODE)
    yield held
    for name in ("own", "nets"):
        sys.modules.pop(name, None)


BY_CHANCE = ["Dropping", "OfRandom", "OfNumpy", "OfTorch", "OfTime", "Counting", "Averaging", "Remembering"]


def test_chance_and_memory_are_refused_and_every_one_is_named(held):
    refused = held.yaml(*BY_CHANCE, "Linear").refused(MemberError)
    named = [line.partition(" gives other values each time")[0] for line in refused.splitlines() if " gives " in line]
    # those that lie equally far apart by chance are named together: m1 (and so m3)
    assert sorted(re.findall(r"m\d", "\n".join(named))) == [f"m{number}" for number in range(len(BY_CHANCE))]
    assert "training=self.training" in refused
    assert "where chance is meant, write how often it is run and averaged: passes: 20" in refused
    assert held.refused(MemberError) == refused, "what is kept of a trial is judged as the trial was"


def test_passes_draw_from_seeded_generators_or_are_refused(held):
    """Story: no seed reaches the clock or what is kept from call to call; what draws nothing has no passes."""
    drawn = [f"factory: own:{name}, passes: 3" for name in BY_CHANCE]
    refused = held.yaml("factory: own:Timed, passes: 3", *drawn[:4]).refused(MemberError)
    assert refused.startswith("member m0 draws other values in the same passes over the same rows: they lie ")
    assert "seeded for each pass, and keep no state from call to call" in refused
    for of_no_generator in (*drawn[4:], "factory: nets:Linear, passes: 3"):
        refused = held.yaml(of_no_generator).refused(UsageError)
        assert refused.startswith("member m0 has passes and is not stochastic: "), of_no_generator
    assert held.yaml(*drawn[:4], "factory: own:Twice, passes: 3").hold() == ()
    assert "m0 and 4 more: run in passes; whether a row's output depends" in [*notes(held.job, check(held.job))][-1]
    assert unsteady_members(held.job, check(held.job), held.book) == {}


def test_neighbours_are_said_with_their_size_and_reach_the_result(held):
    got = held.yaml("Normalised", "OfSize", "Seeded", "Flickering", "Linear").hold()
    beginnings = [line.split(":")[0] for line in got]
    assert any(line.startswith("member m0 gives a row alone another output") for line in beginnings)
    assert any(line.startswith("member m1 gives a row another output in a larger batch") for line in beginnings)
    assert any(line.startswith("member m2 gives a row alone") for line in beginnings)
    assert any(line.startswith("member m3 gives other bits each time") for line in beginnings)
    assert not any("member m4" in line for line in got)
    found = unsteady_members(held.job, check(held.job), held.book)
    assert found.keys() == {"m0", "m1", "m2", "m3"} and found["m3"] == {"reproducible": False}
    assert found["m0"]["alone"] > 0.01 and found["m1"]["other_batch"] > 0.001 and "reproducible" not in found["m0"]


def test_a_trial_is_judged_by_the_tolerance_of_each_run(held):
    held.yaml("Flickering", extra="plan: {tolerance: 0.001}").hold()
    assert "other values each time" in held.yaml("Flickering", extra="plan: {tolerance: 1.0e-9}").refused(MemberError)


@pytest.mark.parametrize("kind", ["torchscript", "exported"])
def test_dropout_that_is_in_the_graph_for_good_is_refused(held, kind):
    net = nn.Sequential(nn.Flatten(), nn.Linear(192, 16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, 4)).train()
    rows, path = torch.rand(4, 3, 8, 8), held.project.folder / "dropping"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if kind == "torchscript":
            torch.jit.trace(net, rows, check_trace=False).save(path)
        else:
            batch = torch.export.Dim("b", min=1, max=64)
            torch.export.save(torch.export.export(net, (rows,), dynamic_shapes=({0: batch},)), path)
    text = f"task: multiclass\nmembers: [{{name: m0, {kind}: {path}}}]\ndevices: {{cpu: 1}}\n"
    assert "other values each time" in refused_as_written(held, text)


def test_batch_norm_in_train_mode_is_said(held):
    net = nn.Sequential(nn.Flatten(), nn.Linear(192, 16), nn.BatchNorm1d(16), nn.Linear(16, 4)).train()
    path = held.project.folder / "norm"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.trace(net, torch.rand(4, 3, 8, 8), check_trace=False).save(path)
    spec = written(held, f"task: multiclass\nmembers: [{{name: m0, torchscript: {path}}}]\ndevices: {{cpu: 1}}\n")
    assert any("in a larger batch" in line for line in spec.hold())


def written(held, text):
    from hpcens.config import load
    from hpcens.specs import Job

    (held.project.folder / "hpcens.yaml").write_text(text)
    spec = load(held.project.folder / "hpcens.yaml")
    held.job = Job(datasets=(held.project.dataset,), output=held.project.output, spec=spec)
    return held


def refused_as_written(held, text):
    return written(held, text).refused(MemberError)


MEMBER = MemberSpec(name="a", factory="a:b")


class TestThresholds:
    def test_beyond_the_tolerance_it_is_chance(self):
        require_no_chance(MEMBER, Steadiness(again=1e-4, same_bits=False), 1e-4)
        with pytest.raises(MemberError, match="other values each time"):
            require_no_chance(MEMBER, Steadiness(again=1.1e-4, same_bits=False), 1e-4)

    def test_within_it_other_bits_are_said(self):
        [line] = steadiness_warnings(MEMBER, Steadiness(again=1e-6, same_bits=False), 1e-4)
        assert "other bits" in line and "1e-06" in line

    def test_other_bits_in_other_batches_are_what_every_network_gives(self):
        assert not list(steadiness_warnings(MEMBER, Steadiness(alone=9e-5, other_batch=9e-5), 1e-4))
        assert Steadiness(alone=None, other_batch=None).faults("float32", 1e-4) == {}

    def test_narrow_types_round_more(self):
        narrow = MemberSpec(name="a", factory="a:b", precision="bfloat16")
        assert not list(steadiness_warnings(narrow, Steadiness(alone=1e-2, other_batch=1e-2), 1e-4))


def test_what_is_kept_of_a_trial_is_read_back(held):
    held.yaml("Linear").hold()
    [kept] = held.book.folder.iterdir()
    raw = json.loads(kept.read_text())["steadiness"]
    assert raw["same_bits"] is True and raw["again"] == 0 and raw["alone"] < 1e-6 and np.isfinite(raw["other_batch"])
