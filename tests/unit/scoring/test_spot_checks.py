"""Spot checks: few rows, spread over the run, the first at once; what they find wrong ends the run for good."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.engines import forward
from torch import nn

from hpcens.engine.cpu import CpuHardware
from hpcens.engine.engine import Engine
from hpcens.errors import FAILURE, MemberError
from hpcens.planning.phases import Phase
from hpcens.result import Form
from hpcens.runs import RunDirectory, digest_of_fingerprint, findings, in_all, is_void
from hpcens.scoring import spot_checks
from hpcens.scoring.spot_checks import SpotChecks, is_checked
from hpcens.specs import MemberSpec, PlanSpec, RunSpec
from hpcens.vocabulary import MemberNumerics, Predict, Predicted, Segmentation

TREE = {"members": {"a": "made of this"}}
ROWS, SEGMENT, BATCH = 40_000, 100, 20


@given(st.integers(1, 3000), st.integers(0, 200), st.text(max_size=3))
def test_segments_are_chosen_all_over_the_run_and_the_first_at_once(segments, checks, seed):
    chosen = [segment for segment in range(segments) if is_checked(seed, segment, segments, checks)]
    first = max(1, segments // 100)
    assert len(chosen) == min(checks, 1 + segments - first)
    if checks:
        assert chosen[0] < first
    if len(chosen) > 10:
        assert chosen[-1] > 0.75 * segments, "to the end"


class Doubled(nn.Module):
    def forward(self, x):
        return x * 2


@pytest.fixture
def checks(tmp_path, monkeypatch):
    """Those of a member that runs in frozen, whose eager doubles its rows."""
    monkeypatch.setattr(spot_checks, "load", lambda member, spec, **_: forward(Doubled(), "a", names=("x",)))
    member = MemberSpec(name="a", factory="x:y", output="values")
    spec = RunSpec(members=(member,), search_path=tmp_path, plan=PlanSpec())
    numerics = SimpleNamespace(members={"a": MemberNumerics(BATCH, "frozen")})
    assignment = SimpleNamespace(
        job=SimpleNamespace(spec=spec, whole=None),
        preflight=SimpleNamespace(space="values", unsteady={}, facts=SimpleNamespace(names=("x",))),
        plan=SimpleNamespace(numerics=numerics),
        shape=(3,),
    )
    checks = SpotChecks(assignment, RunDirectory(tmp_path), Engine(CpuHardware(1)), 1)
    form = Form(
        outputs=(), segmentation=Segmentation(ROWS, SEGMENT), attributes={"fingerprint": json.dumps(TREE)}, documents={}
    )
    return SimpleNamespace(checks=checks, phase=Phase(1, 1, ("a",), form))


def values_of(segment):
    return np.random.default_rng(segment).random((SEGMENT, 3), np.float32)


def score(checks, phase, wrong=lambda segment, values: values, segments=range(400)):
    """Score segments, each of whose predictions may be wrong; those that were handed on."""
    checks.open(phase)

    def predict(task):
        yield Predicted(task.segment, "a", wrong(task.segment, task.rows[0] * 2), BATCH)

    handed_on = []
    predict_checked = checks.around(predict)
    for segment in segments:
        handed_on += [p.segment for p in predict_checked(Predict(segment, ("a",), (values_of(segment),)))]
    return handed_on


def test_right_ones_are_counted_and_few_are_looked_at(checks, monkeypatch):
    monkeypatch.setattr(spot_checks, "_SHARE", 1e9)
    assert len(score(checks.checks, checks.phase)) == 400
    [found] = checks.checks.found
    assert found.beyond == 0 and found.worst < 1e-6 and (found.member, found.runtime) == ("a", "frozen")
    assert 0.9 * ROWS / 200 <= found.rows <= ROWS / 200
    assert in_all([found, found]) == (replace(found, rows=2 * found.rows),)


def test_checks_after_the_first_take_little_of_the_time(checks, monkeypatch):
    monkeypatch.setattr(spot_checks, "_SHARE", 0.0)
    score(checks.checks, checks.phase)
    [found] = checks.checks.found
    assert found.rows == BATCH


def test_far_off_on_any_row_voids_the_run_and_is_not_handed_on(checks, tmp_path):
    with pytest.raises(MemberError, match="runtime frozen of member a gives wrong values") as caught:
        score(checks.checks, checks.phase, lambda segment, values: values + np.float32(0.1))
    assert caught.value.exit_code == FAILURE and "all rows are scored without frozen" in caught.value.remedy
    [finding] = findings(tmp_path)
    assert (finding.member, finding.runtime) == ("a", "frozen")
    assert finding.fingerprint == digest_of_fingerprint(TREE)
    assert is_void(tmp_path, TREE) and not is_void(tmp_path, {"members": {}}) and not is_void(tmp_path, None)


def test_a_little_off_on_many_rows_voids_the_run(checks, monkeypatch):
    monkeypatch.setattr(spot_checks, "_SHARE", 1e9)
    with pytest.raises(MemberError, match=r"of 100 checked rows beyond plan.tolerance"):
        score(checks.checks, checks.phase, lambda segment, values: values + np.float32(1e-4))


def test_a_little_off_on_few_rows_is_counted(checks, tmp_path, monkeypatch):
    monkeypatch.setattr(spot_checks, "_SHARE", 1e9)
    monkeypatch.setattr(spot_checks, "_PART", 0.5)
    segments = [segment for segment in range(400) if is_checked(digest_of_fingerprint(TREE), segment, 400, 10)]

    def wrong(segment, values):
        return values + np.float32(1e-4) if segment == segments[3] else values

    assert len(score(checks.checks, checks.phase, wrong)) == 400
    [found] = checks.checks.found
    assert found.beyond == BATCH and 1e-4 < found.worst < 1e-3 and findings(tmp_path) == ()


def test_other_bad_rows_than_eagers_are_wrong(checks):
    def wrong(segment, values):
        return np.full_like(values, np.nan)

    with pytest.raises(MemberError, match="inf off eager"):
        score(checks.checks, checks.phase, wrong)


def test_eager_is_not_checked_against_itself(checks, monkeypatch):
    checks.checks._assignment.plan.numerics.members["a"] = MemberNumerics(BATCH, "eager")
    monkeypatch.setattr(spot_checks, "load", None)
    assert len(score(checks.checks, checks.phase)) == 400 and checks.checks.found == ()


def test_what_does_not_fit_is_left_out(checks, monkeypatch):
    class Large(nn.Module):
        def forward(self, x):
            return torch.empty(1 << 50)

    monkeypatch.setattr(spot_checks, "load", lambda *_, **__: forward(Large(), "a", names=("x",)))
    assert len(score(checks.checks, checks.phase)) == 400 and checks.checks.found == ()


def test_a_member_that_depends_on_its_neighbours_is_checked_in_whole_batches(checks, monkeypatch):
    """A part of a batch would differ in eager too."""

    class Centred(nn.Module):
        def forward(self, x):
            return x * 2 - x.mean(0)

    monkeypatch.setattr(spot_checks, "_MOST_ROWS", 7)
    monkeypatch.setattr(spot_checks, "load", lambda *_, **__: forward(Centred(), "a", names=("x",)))

    def centred(segment, doubled):
        rows = doubled / 2
        return np.concatenate([part * 2 - part.mean(0) for part in rows.reshape(-1, BATCH, 3)])

    with pytest.raises(MemberError):
        score(checks.checks, checks.phase, centred)
    checks.checks._assignment.preflight.unsteady["a"] = {"alone": 0.3}
    checks.checks._found.clear()
    assert len(score(checks.checks, checks.phase, centred)) == 400
    assert checks.checks.found[0].rows % BATCH == 0 and checks.checks.found[0].beyond == 0


def test_a_narrow_runtime_is_held_against_eager_in_its_precision_by_what_rounding_explains(checks, monkeypatch):
    """Story: the refusal named plan.tolerance, a hundredth of what was held against it."""
    monkeypatch.setattr(spot_checks, "_SHARE", 1e9)
    spec = checks.checks._assignment.job.spec
    narrow = replace(spec, members=(replace(spec.members[0], precision="bfloat16"),))
    checks.checks._assignment.job.spec = narrow
    score(checks.checks, checks.phase, lambda segment, values: values + 0.003)  # of a spread of 0.6: 0.005
    [found] = checks.checks.found
    assert (found.beyond, found.precision) == (0, "bfloat16") and 0.003 < found.worst < 0.0156
    assert (
        found.as_dict()["precision"] == "bfloat16" and "precision" not in replace(found, precision="float32").as_dict()
    )
    assert in_all([found, found]) == (replace(found, rows=2 * found.rows),)
    with pytest.raises(MemberError, match=r"rows beyond what rounding in bfloat16 explains, 0.016"):
        score(checks.checks, checks.phase, lambda segment, values: values + 0.02)
