"""Whole runs in which members score rows of their own: the numbers of separate runs, whatever happens in between."""

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

from hpcens.combining import Recombination, require_same_members
from hpcens.config import load
from hpcens.config.partial import load_partial
from hpcens.errors import DataError, FingerprintMismatch, UsageError
from hpcens.evaluation import Question, Wish, judge, select
from hpcens.members import digest_of
from hpcens.result.finished import Finished
from hpcens.result.verify import verify

MODELS = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.net = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 4))

    def forward(self, x):
        return self.net(x)
"""
ROWS, FOLDS = 53, 5
OUTPUTS = ["prediction", "label", "members", "variance", "entropy", "mutual_information", "disagreement"]


class Bench:
    """A folder with a dataset of five folds and a network for each."""

    def __init__(self, folder):
        self.folder = folder
        (folder / "routed_models.py").write_text(MODELS)
        names = {}
        exec(MODELS, names)
        for fold in range(FOLDS):
            torch.save(names["Net"](fold).state_dict(), folder / f"{fold}.pt")
        self.dataset = folder / "data.h5"
        with h5py.File(self.dataset, "w") as file:
            file["x"] = np.random.default_rng(0).random((ROWS, 8), np.float32)
        self.fold = np.random.default_rng(1).integers(0, FOLDS, ROWS)
        self.put("fold", self.fold)

    def put(self, name, values):
        with h5py.File(self.dataset, "a") as file:
            if name in file:
                del file[name]
            file[name] = values

    def config(self, rows, name="run", route=None, **more):
        """Write a configuration. rows: of each member; None for all."""
        members = [
            {"name": f"m{i}", "factory": "routed_models:Net", "arguments": {"seed": i}, "weights": f"{i}.pt"}
            | ({} if each is None else {"rows": each})
            for i, each in rows.items()
        ]
        tree = {"members": members, "task": "multiclass", "dataset": {"input": "x"}, "output": {"datasets": OUTPUTS}}
        routes = {key: key for each in rows.values() for key in each or {} if key != "path"}
        if routes:
            tree["dataset"]["route"] = route or routes
        path = self.folder / f"{name}.yaml"
        path.write_text(json.dumps(tree | more))
        return path

    def score(self, config, name="out", **options):
        output = self.folder / f"{name}.h5"
        run(config, self.dataset, output, **options)
        return output

    def finished(self, config, name="out", **options):
        return Finished(self.score(config, name, **options))


@pytest.fixture
def bench(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    torch.set_num_threads(1)
    yield Bench(tmp_path)
    sys.modules.pop("routed_models", None)


OUT_OF_FOLD = {i: {"fold": i} for i in range(FOLDS)}


def test_out_of_fold_is_what_a_run_of_each_member_gives_for_its_fold(bench):
    got = outputs(bench.score(bench.config(OUT_OF_FOLD)))
    merged, labels = np.full((ROWS, 4), np.nan, np.float32), np.full(ROWS, -1)
    for fold in range(FOLDS):
        bench.put(f"in{fold}", bench.fold == fold)
        alone = outputs(
            bench.score(bench.config({fold: None}, dataset={"input": "x", "select": f"in{fold}"}), f"one{fold}")
        )
        merged[bench.fold == fold], labels[bench.fold == fold] = alone["prediction"], alone["label"]
        of_member = got[f"members/m{fold}"]
        assert np.abs(of_member[bench.fold == fold] - alone["prediction"]).max() <= 1e-6
        assert np.isnan(of_member[bench.fold != fold]).all()
    assert np.abs(got["prediction"] - merged).max() <= 1e-6 and (got["label"] == labels).all()
    assert (got["present"] == (bench.fold[:, None] == np.arange(FOLDS))).all()
    assert np.isnan(got["variance"]).all()
    assert not got["disagreement"].any() and not got["mutual_information"].any()
    assert verify(bench.folder / "out.h5").faults == []


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 2**32))
def test_the_bytes_are_the_same_through_kills_phases_and_reducers(tmp_path_factory, seed):
    """Story: members with any rows; the run is ended early, goes on with other reducers, or is scored in phases."""
    draw = random.Random(seed)
    bench = Bench(tmp_path_factory.mktemp("bench"))
    try:
        bench.put("a", np.array([draw.randint(0, 3) for _ in range(ROWS)]))
        kinds = [None, {"a": 1}, {"a": [0, 2]}, {"a": {"not": 3}}, {"fold": 2}, {"a": 1, "fold": {"not": 0}}]
        rows = {i: draw.choice(kinds) for i in range(4)} | {4: {"a": 3}}
        config = bench.config(rows, bad_rows="mask")
        whole = bytes_of(bench.score(config, "whole"))
        bench.score(config, "killed", most=draw.randint(1, 12), writers=draw.randint(1, 3))
        assert bytes_of(bench.score(config, "killed", writers=draw.randint(1, 3))) == whole
        names = [f"m{i}" for i in rows]
        draw.shuffle(names)
        cut = draw.randint(1, 4)
        phases = tuple(tuple(sorted(group)) for group in (names[:cut], names[cut:]))
        bench.score(config, "phases", phases=phases, most=draw.choice([None, 3]))
        if not (bench.folder / "phases.h5").exists():
            bench.score(config, "phases", phases=phases)
        assert bytes_of(bench.folder / "phases.h5") == whole
    finally:
        sys.modules.pop("routed_models", None)


def test_a_row_that_no_member_scores_is_refused_or_masked(bench):
    rows = {i: {"fold": i} for i in range(4)}
    missing = np.flatnonzero(bench.fold == 4)
    with pytest.raises(DataError, match=f"no member scores {len(missing)} of the {ROWS} rows, first {missing[0]},"):
        bench.score(bench.config(rows))
    got = outputs(bench.score(bench.config(rows, bad_rows="mask")))
    assert (np.flatnonzero(got["valid"] == 0) == missing).all()
    assert np.isnan(got["prediction"][missing]).all() and (got["label"][missing] == -1).all()
    assert not got["present"][missing].any() and np.isfinite(np.delete(got["prediction"], missing, 0)).all()


def test_a_bad_row_is_masked_at_its_own_place(bench):
    clean = outputs(bench.score(bench.config(OUT_OF_FOLD, bad_rows="mask"), "clean"))
    row = int(np.flatnonzero(bench.fold == 2)[-1])
    with h5py.File(bench.dataset, "r+") as file:
        file["x"][row] = np.nan
    got = outputs(bench.score(bench.config(OUT_OF_FOLD, bad_rows="mask"), "holed"))
    assert np.flatnonzero(got["valid"] == 0).tolist() == [row] and not got["present"][row].any()
    for name, values in got.items():
        assert np.delete(values, row, 0).tobytes() == np.delete(clean[name], row, 0).tobytes(), name
    with pytest.raises(DataError, match=f"member m2 is fed NaN or infinity in row {row}"):
        bench.score(bench.config(OUT_OF_FOLD), "failing")


def test_a_member_is_added_with_rows_that_nobody_scored(bench):
    """Story: four folds are scored, the fifth is masked; its member is added, and scores it."""
    four = bench.config({i: {"fold": i} for i in range(4)}, bad_rows="mask")
    bench.score(four, "grown")
    five = bench.config(OUT_OF_FOLD, bad_rows="mask")
    assert bytes_of(bench.score(five, "grown")) == bytes_of(bench.score(five, "whole"))


def test_other_rows_are_another_run(bench):
    config = bench.config(OUT_OF_FOLD)
    bench.score(config)
    with pytest.raises(FingerprintMismatch, match=r"members.m4.rows: \d+ of 53: \w+ then, \d+ of 53: \w+ now"):
        bench.score(bench.config(OUT_OF_FOLD | {4: {"fold": {"not": 0}}}))
    same = bench.config(OUT_OF_FOLD | {4: {"fold": {"not": [0, 1, 2, 3]}}})
    bench.score(same)  # which are the same rows
    with pytest.raises(FingerprintMismatch, match=r"members.m0.rows: 11 of 53: \w+ then, absent now"):
        bench.score(bench.config(dict.fromkeys(range(FOLDS))))


def test_a_run_without_rows_goes_on_only_without_them(bench):
    bench.score(bench.config(dict.fromkeys(range(2))))
    with pytest.raises(FingerprintMismatch, match=r"members.m0.rows: absent then.* → no members\[\].rows in the YAML"):
        bench.score(bench.config({0: {"fold": {"not": 0}}, 1: None}))


def test_stored_members_are_combined_by_who_is_present(bench):
    rows = {0: None, 1: {"fold": {"not": 1}}, 2: {"fold": [1, 2]}}
    source = bench.finished(bench.config(rows))
    partial = bench.folder / "median.yaml"
    partial.write_text(json.dumps({"rule": {"name": "max"}, "output": {"datasets": OUTPUTS}}))
    spec = load_partial(partial, load(bench.config(rows)))
    Recombination(source, spec, bench.folder / "max.h5").write()
    whole = bytes_of(bench.score(bench.config(rows, rule="max"), "again"))
    assert bytes_of(bench.folder / "max.h5") == whole
    two = load(bench.config({0: None, 2: {"fold": [1, 2]}}))
    require_same_members(source, two)
    Recombination(source, two, bench.folder / "two.h5").write()
    assert bytes_of(bench.folder / "two.h5") == bytes_of(bench.score(bench.config({0: None, 2: rows[2]}), "fewer"))
    with pytest.raises(DataError, match=r"none of m1, m2 has scored row|none of m2 has scored row"):
        Recombination(source, load(bench.config({2: rows[2]})), bench.folder / "one.h5")
    with pytest.raises(FingerprintMismatch, match=r"members.m2.rows: fold 1 or 2 \(fold fold\) then, all now"):
        require_same_members(source, load(bench.config({2: None})))
    partial.write_text(json.dumps({"output": {"datasets": OUTPUTS, "dtype": "uint8"}}))
    with pytest.raises(UsageError, match="uint8 has no NaN"):
        load_partial(partial, load(bench.config(rows)))


def test_a_rule_of_the_users_own_sees_the_members_that_scored_and_is_tried_on_them_before(bench):
    (bench.folder / "routed_rules.py").write_text(
        "def first(stack, names):\n"
        "    if names == ('m0', 'm2'):\n        raise KeyError('m1')\n"
        "    return stack[names.index('m0')]\n"
    )
    config = bench.config({0: None, 1: {"fold": 1}}, rule="routed_rules:first")
    got = outputs(bench.score(config))
    assert got["prediction"].tobytes() == got["members/m0"].tobytes()
    source = bench.finished(bench.config({0: None, 1: {"fold": 1}, 2: {"fold": 2}}), "three")
    partial = bench.folder / "first.yaml"
    partial.write_text(json.dumps({"rule": "routed_rules:first"}))
    with pytest.raises(Exception, match="rule routed_rules:first raised KeyError"):
        Recombination(source, load_partial(partial, load(bench.folder / "run.yaml")), bench.folder / "no.h5")
    sys.modules.pop("routed_rules", None)


def test_the_ensemble_is_judged_and_each_member_on_the_rows_that_it_scored(bench):
    rows = {0: None, 1: {"fold": 1}, 2: {"fold": {"not": 1}}}
    result = bench.finished(bench.config(rows))
    labels = np.random.default_rng(2).integers(0, 4, ROWS)
    question = dict(labels=lambda start, stop: labels[start:stop], source="labels")
    with pytest.raises(UsageError, match="scored rows of their own"):
        select(result, Wish(**question))
    found = judge(result, Question(**question))
    got = outputs(bench.folder / "out.h5")
    assert found.rows.used == ROWS and found.rows.unscored == 0
    assert found.ensemble["accuracy"].value == pytest.approx((got["label"] == labels).mean())
    for number in rows:
        scored = got["present"][:, number] == 1
        right = got[f"members/m{number}"][scored].argmax(1) == labels[scored]
        accuracy = found.members[f"m{number}"]["accuracy"]
        assert accuracy.value == pytest.approx(right.mean()) and accuracy.low < accuracy.value < accuracy.high
    assert found.gains == {} and found.leave_one_out == {}
    assert any("each is judged on those, and compared with no other" in note for note in found.notes)
    alone = judge(result, Question(**question, members=False))
    assert alone.ensemble["accuracy"] == found.ensemble["accuracy"] and alone.members == {}


def test_values_are_judged_where_members_have_scored_them(bench):
    more = {"task": "regression", "output": {"datasets": ["prediction", "members", "variance"]}}
    result = bench.finished(bench.config({0: None, 1: {"fold": 1}}, **more))
    truth = np.random.default_rng(2).random((ROWS, 4))
    found = judge(result, Question(labels=lambda start, stop: truth[start:stop], source="labels"))
    got = outputs(bench.folder / "out.h5")
    of_fold = bench.fold == 1
    errors = {"m0": got["members/m0"] - truth, "m1": (got["members/m1"] - truth)[of_fold]}
    for name, each in errors.items():
        assert found.members[name]["root_mean_squared_error"].value == pytest.approx(np.sqrt((each**2).mean()))
    assert "crps" not in found.ensemble


def test_a_member_that_is_to_score_other_rows_is_not_tried_or_measured_again():
    assert digest_of({"weights": "1", "rows": "3 of 9: a"}) == digest_of({"weights": "1"})
