"""What is stored is built on only where it means what the configuration means now."""

import json
import sys
from contextlib import closing

import h5py
import numpy as np
import pytest
import torch
from support.one_process import run

from hpcens.checks.preflight import begins_anew_in, check
from hpcens.checks.trials import TrialBook
from hpcens.combining import require_same_members
from hpcens.config import load
from hpcens.errors import FingerprintMismatch, UsageError
from hpcens.result.finished import Finished
from hpcens.runs import RunDirectory
from hpcens.specs import Job

MODEL = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, shape=(4,)):
        super().__init__()
        self.shape = tuple(shape)
        self.head = nn.Linear(6, torch.Size(shape).numel())

    def forward(self, x):
        return self.head(x).unflatten(1, self.shape)
"""


@pytest.fixture
def scored(tmp_path, monkeypatch):
    """Scores members, by name and keys, under further keys of the configuration; returns the members scored."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "earlier_models.py").write_text(MODEL)
    with h5py.File(tmp_path / "data.h5", "w") as file:
        file["x"] = np.random.default_rng(0).random((9, 6), np.float32)
    names = {}
    exec(MODEL, names)

    def configure(members, **more):
        tree = {"members": [], "output": {"datasets": ["prediction", "members"]}, "task": "multiclass", **more}
        for seed, (name, keys) in enumerate(members.items()):
            torch.manual_seed(seed)
            torch.save(names["Net"](**keys.get("arguments", {})).state_dict(), tmp_path / f"{name}.pt")
            tree["members"].append({"name": name, "factory": "earlier_models:Net", "weights": f"{name}.pt", **keys})
        (tmp_path / "run.yaml").write_text(json.dumps(tree))
        return tmp_path / "run.yaml"

    def score(members, **more):
        return run(configure(members, **more), tmp_path / "data.h5", tmp_path / "out.h5")

    score.configure, score.output = configure, tmp_path / "out.h5"
    yield score
    sys.modules.pop("earlier_models", None)


MAPPED = {"classes": {"w": "a", "x": "b", "y": "c", "z": "d"}}
HIGH = {"arguments": {"shape": [4, 5]}}
LATE = {"arguments": {"shape": [5, 4]}}


def test_a_member_is_not_added_to_others_in_another_order_of_classes(scored):
    """Stored are the columns of the classes as they were; the new member's would be those of today's."""
    assert scored({"m": MAPPED}, classes=["a", "b", "c", "d"]) == ("m",)
    with pytest.raises(FingerprintMismatch, match=r"outputs\.classes: .*'a', 'b'.* then, .*'b', 'a'.* now"):
        scored({"m": MAPPED, "n": {}}, classes=["b", "a", "c", "d"])
    assert scored({"m": MAPPED, "n": {}}, classes=["a", "b", "c", "d"]) == ("n",)


def test_classes_that_are_only_names_may_be_renamed_while_a_member_is_added(scored):
    assert scored({"m": {}}, classes=["a", "b", "c", "d"]) == ("m",)
    assert scored({"m": {}, "n": {}}, classes=["ant", "bee", "cat", "dog"]) == ("n",)


@pytest.mark.parametrize(
    ("first", "stated", "second", "now"),
    [
        # it was where it was found; a member that says its own brings all to the last axis
        (HIGH, {"classes": 4}, {**LATE, "class_axis": 2}, {"classes": 4}),
        ({**HIGH, "class_axis": 1}, {}, {"arguments": {"shape": [4, 4]}}, {"class_axis": 1}),
    ],
)
def test_a_member_is_not_added_to_others_with_classes_on_another_axis(scored, first, stated, second, now):
    scored({"m": first}, **stated)
    with pytest.raises(
        (UsageError, FingerprintMismatch), match=r"classes on axis 1, and the job has them on 2|class_axis"
    ):
        scored({"m": first, "n": second}, **now)


def test_a_member_with_another_layout_is_added_where_the_ensembles_is_stated(scored):
    assert scored({"m": HIGH}, class_axis=1) == ("m",)
    assert scored({"m": HIGH, "n": {**LATE, "class_axis": 2}}, class_axis=1) == ("n",)
    with h5py.File(scored.output) as file:
        mean = (file["members/m"][:] + file["members/n"][:]) / 2
        np.testing.assert_allclose(file["prediction"][:], mean, atol=1e-7)
        assert file["members/n"].shape == (9, 4, 5)


@pytest.mark.parametrize(
    ("then", "now", "says"),
    [
        (
            {"preprocess": [{"scale": 2.0}, {"scale": 0.5}]},
            {"preprocess": [{"scale": 2.0}]},
            r"preprocess\[1\]: .* absent",
        ),
        ({"bad_rows": "pass"}, {}, "bad_rows: pass then, absent now"),
        (MAPPED, {}, "classes: .* then, absent now"),
    ],
)
def test_members_are_combined_again_as_what_they_were_scored_as(scored, then, now, says):
    scored({"m": then}, classes=["a", "b", "c", "d"])
    with closing(Finished(scored.output)) as source, pytest.raises(FingerprintMismatch, match=says):
        require_same_members(source, load(scored.configure({"m": now}, classes=["a", "b", "c", "d"])))


@pytest.mark.parametrize(
    ("then", "now", "says"),
    [
        ({"class_axis": 1}, {"class_axis": 2}, "class_axis: 1 then, 2 now"),
        ({"class_axis": 1}, {}, "class_axis: 1 then, absent now"),
        ({"class_axis": -1}, {"class_axis": 1}, "absent then, 1 now → no class_axis, or class_axis: -1 in the YAML"),
        ({"class_axis": 1, "task": "multilabel"}, {"class_axis": 1}, "task: multilabel then, absent now"),
    ],
)
def test_what_the_ensemble_takes_them_for_is_compared_too(scored, then, now, says):
    """And where a member's files are gone."""
    scored({"m": HIGH}, **then)
    config = load(scored.configure({"m": HIGH}, **now))
    for gone in (False, True):
        if gone:
            config.members[0].file.unlink()
        with closing(Finished(scored.output)) as source, pytest.raises(FingerprintMismatch, match=says):
            require_same_members(source, config)


def test_classes_in_another_order_are_no_names_of_what_was_brought_to_them(scored):
    scored({"m": MAPPED}, classes=["a", "b", "c", "d"])
    config = load(scored.configure({"m": MAPPED}, classes=["b", "a", "c", "d"]))
    with closing(Finished(scored.output)) as source, pytest.raises(FingerprintMismatch, match="brought to them"):
        require_same_members(source, config)


def test_what_was_begun_binds_nobody_before_a_row_of_it_is_saved(scored, tmp_path):
    """Story: a run ends on its first rows; what mends it is another run, and begins anew in the same directory."""
    path, data, output = scored.configure({"m": {}}), tmp_path / "data.h5", tmp_path / "out.h5"
    run(path, data, output, most=0)
    begun = RunDirectory.of(output).fixed_fingerprint
    job = Job(datasets=(data,), output=output, spec=load(scored.configure({"m": {}}, bad_rows="mask")))
    preflight = check(job, TrialBook(tmp_path / "trials"))
    assert begins_anew_in(job, preflight) == (
        f"{tmp_path / 'out.run'} begins anew: no row is saved of what was begun there"
        " (outputs.bad_rows: fail then, mask now)"
    )
    assert run(scored.configure({"m": {}}, bad_rows="mask"), data, output, most=1) == ("m",)
    assert RunDirectory.of(output).fixed_fingerprint != begun
    assert begins_anew_in(job, preflight) == "", "it is this run's own by now"
    with pytest.raises(FingerprintMismatch, match=r"bad_rows: mask then, fail now"):
        scored({"m": {}})
    assert scored({"m": {}}, bad_rows="mask") == ("m",)


def test_a_member_that_never_gave_a_row_may_be_changed_while_it_is_added(scored, tmp_path):
    assert scored({"m": {}}) == ("m",)
    run(scored.configure({"m": {}, "n": {}}), tmp_path / "data.h5", scored.output, most=0)
    assert scored({"m": {}}) == (), "the result of one member is complete as ever"
    assert scored({"m": {}, "n": {"preprocess": [{"scale": 2.0}]}}) == ("n",)
