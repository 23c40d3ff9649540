"""Whole runs of a cascade: a row is combined from the stages that it came to, whatever happens in between."""

import json
import random
import sys

import h5py
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.one_process import run
from support.results import bytes_of, outputs

from hpcens.checks.preflight import check
from hpcens.combining import Recombination
from hpcens.config import load
from hpcens.config.partial import load_partial
from hpcens.errors import FingerprintMismatch, HpcensError, UsageError
from hpcens.planning import expectation
from hpcens.planning.expectation import _Sample, interval, stages_of
from hpcens.result.finished import Finished
from hpcens.result.verify import verify
from hpcens.runs import RunDirectory
from hpcens.specs import Job

MODELS = """
import torch
from torch import nn

class Dropping(nn.Module):
    def __init__(self, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.net = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 4))
        self.drop = nn.Dropout(0.5)

    def forward(self, x):
        return 4 * self.net(self.drop(x))

class Net(nn.Module):
    def __init__(self, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.net = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 4))

    def forward(self, x):
        return 4 * self.net(x)
"""
ROWS = 53
OUTPUTS = ["prediction", "label", "members", "variance", "entropy"]
STAGES = [
    {"members": ["m0", "m1"], "accept": {"entropy": {"below": 1.35}, "disagreement": {"below": 0.25}}},
    {"members": ["m2"], "accept": {"max_probability": {"above": 0.45}}},
    {"members": ["m3"]},
]


class Bench:
    """A folder with a dataset and four networks."""

    def __init__(self, folder):
        self.folder = folder
        (folder / "cascaded_models.py").write_text(MODELS)
        names = {}
        exec(MODELS, names)
        for seed in range(4):
            torch.save(names["Net"](seed).state_dict(), folder / f"{seed}.pt")
        self.dataset = folder / "data.h5"
        with h5py.File(self.dataset, "w") as file:
            file["x"] = np.random.default_rng(0).normal(size=(ROWS, 8)).astype(np.float32)
            file["fold"] = np.arange(ROWS) % 3

    def config(self, cascade=STAGES, name="run", rows=None, **more):
        members = [
            {"name": f"m{i}", "factory": "cascaded_models:Net", "arguments": {"seed": i}, "weights": f"{i}.pt"}
            | ({"rows": rows[i]} if i in (rows or {}) else {})
            for i in range(4)
        ]
        dataset = {"input": "x"} | ({"route": {"fold": "fold"}} if rows else {})
        tree = {"members": members, "task": "multiclass", "dataset": dataset, "output": {"datasets": OUTPUTS}}
        path = self.folder / f"{name}.yaml"
        path.write_text(json.dumps(tree | ({"cascade": cascade} if cascade else {}) | more))
        return path

    def score(self, config, name="out", **options):
        output = self.folder / f"{name}.h5"
        run(config, self.dataset, output, **options)
        return output


@pytest.fixture
def bench(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    torch.set_num_threads(1)
    yield Bench(tmp_path)
    sys.modules.pop("cascaded_models", None)


def entropy(p):
    return -(p * np.log(p)).sum(-1)


def test_a_row_is_combined_from_the_stages_that_it_came_to(bench):
    every = outputs(bench.score(bench.config(None), "every"))
    p = np.stack([every[f"members/m{i}"] for i in range(4)]).astype(np.float64)
    labels = p[:2].mean(0).argmax(1)
    first = (entropy(p[:2].mean(0)) < 1.35) & ((p[:2].argmax(2) != labels).mean(0) < 0.25)
    second = ~first & (p[:3].mean(0).max(1) > 0.45)
    third = ~first & ~second
    assert (first & (p[:2].mean(0).max(1) <= 0.45)).any(), "what the first stage accepts, the second would not"
    assert first.any() and second.any() and third.any()
    got = outputs(bench.score(bench.config()))
    assert (got["present"] == np.stack([np.ones(ROWS), np.ones(ROWS), ~first, third], 1)).all()
    for rows, count in ((first, 2), (second, 3), (third, 4)):
        assert np.abs(got["prediction"][rows] - p[:count].mean(0)[rows]).max() <= 1e-6
        assert np.abs(got["variance"][rows] - p[:count].var(0)[rows]).max() <= 1e-6
    for i in range(4):
        scored = got["present"][:, i] == 1
        assert np.abs(got[f"members/m{i}"][scored] - p[i][scored]).max() <= 1e-6
        assert np.isnan(got[f"members/m{i}"][~scored]).all()
    assert verify(bench.folder / "out.h5").faults == []
    assert RunDirectory.of(bench.folder / "out.h5").phases() == []


@settings(max_examples=6, deadline=None)
@given(st.integers(0, 2**32))
def test_the_bytes_are_the_same_through_kills_groups_and_reducers(tmp_path_factory, seed):
    """Story: any limits, a bad row, routes; ended anywhere, gone on with other reducers, stages in several groups."""
    draw = random.Random(seed)
    bench = Bench(tmp_path_factory.mktemp("bench"))
    try:
        names = [f"m{i}" for i in range(4)]
        draw.shuffle(names)
        cuts = sorted(draw.sample(range(1, 4), draw.randint(1, 3)))
        parts = [names[a:b] for a, b in zip([0, *cuts], [*cuts, 4], strict=True)]
        words = [{"entropy": {"below": draw.uniform(0, 1.4)}}, {"margin": {"above": draw.uniform(0, 1)}}]
        cascade = [{"members": part, "accept": draw.choice(words)} for part in parts[:-1]] + [{"members": parts[-1]}]
        with h5py.File(bench.dataset, "r+") as file:
            file["x"][draw.randrange(ROWS)] = np.nan
        rows = draw.choice([None, {int(parts[0][0][1]): {"fold": [0, 1]}, int(parts[-1][0][1]): {"fold": {"not": 0}}}])
        config = bench.config(cascade, rows=rows, bad_rows="mask")
        whole = bytes_of(bench.score(config, "whole"))
        for _ in range(4):
            bench.score(config, "killed", most=draw.randint(1, 30), writers=draw.randint(1, 3))
        assert bytes_of(bench.score(config, "killed", writers=draw.randint(1, 3))) == whole
        groups = tuple((name,) for name in sorted(names))
        bench.score(config, "grouped", phases=groups, most=draw.randint(1, 40))
        assert bytes_of(bench.score(config, "grouped")) == whole
    finally:
        sys.modules.pop("cascaded_models", None)


@pytest.mark.parametrize(("below", "later"), [(9.0, 0), (0.0, 1)])
def test_all_rows_may_be_accepted_or_none(bench, below, later):
    cascade = [{"members": ["m0"], "accept": {"entropy": {"below": below}}}, {"members": ["m1", "m2", "m3"]}]
    got = outputs(bench.score(bench.config(cascade)))
    assert (got["present"] == [1, later, later, later]).all() and np.isfinite(got["prediction"]).all()
    if later:
        plain = outputs(bench.score(bench.config(None), "plain"))
        assert all(got[name].tobytes() == plain[name].tobytes() for name in plain)


def test_marks_that_are_damaged_are_scored_again(bench):
    """Story: a stage is complete; a byte of its file rots before the next is through."""
    whole = bytes_of(bench.score(bench.config(), "whole"))
    segments = -(-ROWS // 4)
    bench.score(bench.config(), most=segments + 2)
    (stored,) = RunDirectory.of(bench.folder / "out.h5").phases()
    with h5py.File(stored, "r+") as file:
        file["sure"][ROWS - 1] ^= 1
    with pytest.raises(HpcensError, match="scored in an earlier phase"):
        bench.score(bench.config())
    assert bytes_of(bench.score(bench.config())) == whole


def test_a_masked_row_goes_no_further(bench):
    with h5py.File(bench.dataset, "r+") as file:
        file["x"][9] = np.nan
    bench.score(bench.config(bad_rows="mask"), most=-(-ROWS // 4) + 1)
    (stored,) = RunDirectory.of(bench.folder / "out.h5").phases()
    with h5py.File(stored) as file:
        assert file["sure"][9] == 1 and np.flatnonzero(file["valid"][:] == 0).tolist() == [9]


def test_another_limit_is_another_run(bench):
    bench.score(bench.config())
    other = [STAGES[0], STAGES[1] | {"accept": {"max_probability": {"above": 0.7}}}, STAGES[2]]
    with pytest.raises(FingerprintMismatch, match=r"rule.cascade: \[m0, m1\] accepts disagreement below") as caught:
        bench.score(bench.config(other))
    assert "combine" not in caught.value.remedy
    bench.score(bench.config(None), "plain")
    with pytest.raises(FingerprintMismatch, match=r"rule.cascade: absent then, .* → no cascade in the YAML"):
        bench.score(bench.config(), "plain")
    fewer = json.loads(bench.config(None).read_text())
    bench.config(None).write_text(json.dumps(fewer | {"members": fewer["members"][:3]}))
    bench.score(bench.folder / "run.yaml", "three")
    with pytest.raises(FingerprintMismatch, match=r"members.m3: absent then"):
        bench.score(bench.config(), "three")


def test_a_cascade_is_combined_again_only_under_the_rule_that_it_decided_by(bench):
    source = Finished(bench.score(bench.config()))
    partial = bench.folder / "part.yaml"
    partial.write_text(json.dumps({"output": {"datasets": ["prediction", "entropy"]}}))
    Recombination(source, load_partial(partial, load(bench.config())), bench.folder / "again.h5").write()
    fewer = bench.config(output={"datasets": ["prediction", "entropy"]})
    assert bytes_of(bench.folder / "again.h5") == bytes_of(bench.score(fewer, "fewer"))
    partial.write_text(json.dumps({"rule": "median"}))
    with pytest.raises(UsageError, match=r"was scored by a cascade, .*\n  rule.name: mean then, median now"):
        Recombination(source, load_partial(partial, load(bench.config())), bench.folder / "no.h5")
    with pytest.raises(UsageError, match="was scored by a cascade"):
        Recombination(source, load(bench.config(None)), bench.folder / "no.h5")


def test_a_sample_leaves_to_each_stage_what_the_run_leaves(bench):
    """Of few rows, the sample is nearly all of them."""
    job = Job(datasets=(bench.dataset,), output=bench.folder / "out.h5", spec=load(bench.config()))
    sampled, left = list(_Sample(job, check(job), 1).score())[-1]
    present = outputs(bench.score(bench.config()))["present"]
    first = [(2 * place + 1) * (ROWS - 8) // 12 + row for place in range(6) for row in range(8)]
    assert sampled == 48 and left == [int(present[first, 2].sum()), int(present[first, 3].sum())]
    expected = stages_of(job.spec, sampled, left)
    assert [stage.part for stage in expected] == [1.0, left[0] / 48, left[1] / 48]
    assert all(0 <= stage.low <= stage.part <= stage.high <= 1 for stage in expected), expected


def test_a_sample_is_scored_in_a_process_of_its_own_and_kept(bench, monkeypatch):
    monkeypatch.setenv("HPCENS_CACHE", str(bench.folder / "cache"))
    monkeypatch.setattr(expectation, "_START_SECONDS", 1e6)
    monkeypatch.setattr(expectation, "_SECONDS", 1e6)
    job = Job(datasets=(bench.dataset,), output=bench.folder / "out.h5", spec=load(bench.config()))
    checked = check(job)
    assert not any(stage.sampled for stage in expectation.kept_stages(job, checked)[1:])
    found = expectation.sampled_stages(job, checked)
    assert found == stages_of(job.spec, *list(_Sample(job, checked, 1).score())[-1]) and found[1].sampled == 48
    assert expectation.kept_stages(job, checked) == found
    other = Job(datasets=(bench.dataset,), output=bench.folder / "out.h5", spec=load(bench.config(rule="median")))
    assert expectation.kept_stages(other, check(other)) != found
    (bench.folder / "cascaded_models.py").write_text("raise SystemExit(3)")
    assert [stage.part for stage in expectation.sampled_stages(other, checked)] == [1.0, 1.0, 1.0]


def test_how_sure_a_part_is():
    assert interval(0, 512) == (0.0, pytest.approx(0.00745, abs=1e-4))
    assert interval(256, 512) == (pytest.approx(0.4569, abs=1e-4), pytest.approx(0.5431, abs=1e-4))


def drawn(bench, accept, *, others=(0, 2, 3)):
    """A cascade whose first stage is a member that is run in passes, alone."""
    stages = [{"members": ["m1"], "accept": accept}, {"members": [f"m{i}" for i in others]}]
    config = bench.config(stages, output={"datasets": [*OUTPUTS, "expected_entropy", "mutual_information"]})
    tree = json.loads(config.read_text())
    tree["members"][1] |= {"factory": "cascaded_models:Dropping", "passes": 5}
    config.write_text(json.dumps(tree))
    return config


@pytest.mark.parametrize("word", ["mutual_information", "expected_entropy"])
def test_a_stage_accepts_by_what_passes_are_apart(bench, word):
    """Story: one network with dropout first; where its passes agree, no other is asked."""
    limit = {"mutual_information": 0.25, "expected_entropy": 0.8}[word]
    config = drawn(bench, {word: {"below": limit}})
    got = outputs(bench.score(config))
    p, expected = got["members/m1"].astype(np.float64), got["pass_entropy/m1"].astype(np.float64)
    measure = expected if word == "expected_entropy" else entropy(p) - expected
    accepted = measure < limit
    assert 0.1 < accepted.mean() < 0.9
    assert (got["present"][:, 1] == 1).all() and ((got["present"][:, 0] == 0) == accepted).all()
    assert np.abs(got[word][accepted] - measure[accepted]).max() < 1e-6
    job = Job(datasets=(bench.dataset,), output=bench.folder / "none.h5", spec=load(config))
    *_, (sampled, left) = _Sample(job, check(job), 1).score()  # which draws numbers of its own
    assert 0 < left[0] < sampled


def test_what_no_passes_tell_is_refused_by_name(bench):
    with pytest.raises(UsageError, match="disagreement: is how far members are apart, and one member has scored"):
        load(drawn(bench, {"disagreement": {"below": 0.1}}))
    config = drawn(bench, {"mutual_information": {"below": 0.1}})
    tree = json.loads(config.read_text()) | {"rule": {"space": "logits"}, "output": {"datasets": ["members"]}}
    config.write_text(json.dumps(tree))
    with pytest.raises(UsageError, match=r"mutual_information: is of probabilities, as m1 has passes, and rule\.space"):
        load(config)
