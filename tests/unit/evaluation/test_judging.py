"""A result held against labels: from the file, its masks, columns and members, to figures, JSON, text and a page."""

import dataclasses
import json

import h5py
import numpy as np
import pytest
from sklearn import metrics
from support import stored
from support.outputs import members as members_of
from support.stored import CLASSES, ROWS, SHAPE, STACK, scored, spec

import hpcens
from hpcens.cli import main
from hpcens.combining.recombination import Recombination
from hpcens.errors import DataError, UsageError
from hpcens.evaluation import judging
from hpcens.evaluation.labels import Outputs, as_targets
from hpcens.vocabulary import Device, MemberNumerics, Numerics, Plan
from hpcens.vocabulary.plan import Hosting

TRUE = np.where(np.random.default_rng(7).random(ROWS) < 0.6, STACK.mean(0).argmax(1), np.arange(ROWS) % 4)


@pytest.fixture
def result(tmp_path):
    scored(tmp_path / "r.h5", spec()).close()
    return tmp_path / "r.h5"


def test_members_and_ensemble_are_judged_as_scikit_learn_judges_what_is_stored(result):
    found = hpcens.evaluate(result, TRUE)
    assert list(found.members) == ["m0", "m1", "m2"]
    with h5py.File(result) as file:
        arrays = {name: file[f"members/{name}"][:] for name in found.members} | {"": file["prediction"][:]}
    for name, array in arrays.items():
        scores = found.members[name] if name else found.ensemble
        assert scores["accuracy"].value == metrics.accuracy_score(TRUE, array.argmax(1))
        assert scores["log_loss"].value == pytest.approx(metrics.log_loss(TRUE, array, labels=range(4)), rel=1e-6)
    assert found.rows.used == found.rows.total == ROWS and found.classes == list(CLASSES)
    best = max(found.members, key=lambda name: found.members[name]["accuracy"].value)
    gain = found.gains["accuracy"]
    assert gain.member == best and gain.difference.low <= gain.difference.value <= gain.difference.high
    assert found.ensemble["accuracy"].value - found.members[best]["accuracy"].value == pytest.approx(
        gain.difference.value
    )


@pytest.mark.parametrize("rule", ["mean", "median", "vote", "geometric", "weighted", "rules:confident"])
def test_what_leaving_a_member_out_costs_is_what_combine_makes_of_the_others(tmp_path, rule):
    made = spec(rule, weights=[1.0, 2.0, 0.5] if rule == "weighted" else None)
    source = scored(tmp_path / "r.h5", made)
    found = hpcens.evaluate(tmp_path / "r.h5", TRUE)
    fewer = dataclasses.replace(made, members=tuple(m for m in made.members if m.name != "m1"))
    Recombination(source, fewer, tmp_path / "fewer.h5").write()
    other = hpcens.evaluate(tmp_path / "fewer.h5", TRUE)
    for measure, difference in found.leave_one_out["m1"].differences.items():
        expected = other.ensemble[measure].value - found.ensemble[measure].value
        assert difference.value == pytest.approx(expected, abs=1e-12)
    assert list(found.leave_one_out) == ["m0", "m1", "m2"] and len(found.leave_one_out["m0"].differences) == 3


def test_work_is_the_share_of_device_time_by_the_plan_of_the_result(result):
    """m0 takes a third of each of two devices; m1 and m2 a sixth and a half of a third one."""
    plan = Plan(
        planner="optimal",
        devices=tuple(Device(name, "cpu", "cpu", 1) for name in "abc"),
        hostings=(
            Hosting(("a", "b"), 0, {"m0": 30.0}, {"m0": 10.0}),
            Hosting(("c",), 0, {"m1": 120.0, "m2": 40.0}, {"m1": 20.0, "m2": 20.0}),
        ),
        numerics=Numerics(16, {name: MemberNumerics(8, "eager") for name in ("m0", "m1", "m2")}, ("cpu",), "2.0"),
        **dict(rows=ROWS, row_bytes=8, output_bytes=8, differences={}, loading=0, throughput=1, bound=1, limit=""),
        **dict(window=4, read_ahead=3),
    )
    assert hpcens.evaluate(result, TRUE).leave_one_out["m0"].work is None
    with h5py.File(result, "r+") as file:
        del file["hpcens/plan"]
        file["hpcens/plan"] = np.frombuffer(plan.to_json().encode(), np.uint8)
    work = {name: left.work for name, left in hpcens.evaluate(result, TRUE).leave_one_out.items()}
    assert work == {"m0": pytest.approx(1 / 2), "m1": pytest.approx(1 / 8), "m2": pytest.approx(3 / 8)}


def test_other_segments_give_the_same_bytes(result, tmp_path, monkeypatch):
    once = hpcens.evaluate(result, TRUE).to_json()
    assert hpcens.evaluate(result, TRUE).to_json() == once
    monkeypatch.setattr(judging, "_BLOCK_BYTES", 8 * 4 * 3)
    assert hpcens.evaluate(result, TRUE).to_json() == once
    monkeypatch.setattr(stored, "SEGMENT", 7)
    (tmp_path / "again").mkdir()
    scored(tmp_path / "again" / "r.h5", spec()).close()
    other = json.loads(hpcens.evaluate(tmp_path / "again" / "r.h5", TRUE).to_json())
    assert {**other, "fingerprint": ""} == {**json.loads(once), "fingerprint": ""}


def test_labels_are_indices_names_or_one_hot_and_may_be_a_column(result):
    expected = hpcens.evaluate(result, TRUE)
    for labels in (np.array(CLASSES)[TRUE], np.eye(4)[TRUE], TRUE.astype("f4"), TRUE[:, None]):
        found = hpcens.evaluate(result, labels)
        assert found.ensemble == expected.ensemble and found.labels.digest == expected.labels.digest
    with pytest.raises(DataError, match="labels columns/id: row 4 is 4, and there are 4 classes, 0–3"):
        hpcens.evaluate(result, labels_column="id")
    with pytest.raises(UsageError, match="has no such column; it has id, meta/name, place"):
        hpcens.evaluate(result, labels_column="labels")
    assert hpcens.evaluate(result, TRUE, groups="tag").ensemble["accuracy"] != expected.ensemble["accuracy"]


def masked_result(folder):
    """Rows 3 and 20 could not be scored."""
    made = dataclasses.replace(spec(), bad_rows="mask")
    scored(folder / "m.h5", made).close()
    with h5py.File(folder / "m.h5", "r+") as file:
        file["valid"][[3, 20]] = 0
        from hpcens.result.checksum import Checksum

        for segment in range(len(file["hpcens/checksums"])):
            digest = Checksum(segment)
            for name in file.attrs["outputs"]:
                rows = file[name][segment * 16 : (segment + 1) * 16]
                digest.add(np.ascontiguousarray(rows).reshape(-1).view(np.uint8).data)
            file["hpcens/checksums"][segment] = digest.value
    return folder / "m.h5"


def test_masked_rows_and_rows_without_a_label_are_counted(tmp_path):
    labels = TRUE.astype(float)
    labels[3], labels[10] = np.nan, np.nan
    with pytest.raises(DataError, match="labels of an array: row 10 is nan: is not finite"):
        hpcens.evaluate(masked_result(tmp_path), labels)
    found = hpcens.evaluate(tmp_path / "m.h5", labels, ignore=float("nan"))
    assert dataclasses.astuple(found.rows) == (ROWS, ROWS - 3, 2, 0, 1, ROWS - 3)
    assert "47 of 50 rows against labels of an array, 2 masked, 1 without a label" in repr(found)


def test_members_that_are_not_stored_are_refused_with_the_remedy(tmp_path):
    scored(tmp_path / "r.h5", spec(datasets=("prediction", "label"))).close()
    with pytest.raises(UsageError, match=r"output\.datasets: \[prediction, members\].*ensemble_only=True"):
        hpcens.evaluate(tmp_path / "r.h5", TRUE)
    found = hpcens.evaluate(tmp_path / "r.h5", TRUE, ensemble_only=True)
    assert found.members == found.gains == found.leave_one_out == {} and found.ensemble["accuracy"].value > 0.25
    scored(tmp_path / "label.h5", spec(datasets=("label", "members"))).close()
    with pytest.raises(UsageError, match="does not hold its predictions"):
        hpcens.evaluate(tmp_path / "label.h5", TRUE)


def test_rounded_members_are_judged_and_not_left_out(tmp_path):
    scored(tmp_path / "r.h5", spec(dtype="uint8")).close()
    found = hpcens.evaluate(tmp_path / "r.h5", TRUE)
    assert found.leave_one_out == {} and any("stored as uint8, rounded" in note for note in found.notes)
    assert found.ensemble["log_loss"].value == pytest.approx(
        metrics.log_loss(TRUE, STACK.astype(float).mean(0), labels=range(4)), rel=0.01
    )


def test_a_class_that_never_occurs_is_named(result):
    found = hpcens.evaluate(result, np.minimum(TRUE, 2))
    assert "no label is dog: roc_auc is the mean of the other classes" in found.notes
    assert found.of_class[3] == 0 and 0 < found.ensemble["roc_auc"].value < 1


def test_values_are_judged_with_their_spread(tmp_path):
    made = dataclasses.replace(spec(), members=tuple(members_of([None] * 3, "values")), classes=None, task="regression")
    scored(tmp_path / "r.h5", made, "values").close()
    labels = STACK.mean(0).astype(float) + np.random.default_rng(1).normal(0, 0.1, (ROWS, *SHAPE))
    found = hpcens.evaluate(tmp_path / "r.h5", labels)
    mean = STACK.astype(float).mean(0)
    assert found.ensemble["r2_score"].value == pytest.approx(metrics.r2_score(labels, mean), rel=1e-5)
    assert {"crps", "negative_log_likelihood", "spread_to_error", "aurc"} <= found.ensemble.keys()
    assert found.task == "regression" and "Error against spread" in found._repr_html_()
    with pytest.raises(DataError, match=r"are \[3\] a row, and predictions need \[4\]"):
        hpcens.evaluate(tmp_path / "r.h5", labels[:, :3])


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0, 1, 4], "row 12 is 4, and there are 3 classes, 0–2"),
        ([0, -1, 1], "row 11 is -1, and there are 3 classes"),
        ([0.0, 0.5, 1.0], r"row 11 is 0\.5: is no index of a class"),
        ([0.0, np.inf, 1.0], "row 11 is inf: is not finite"),
        (["a", "b", "x"], "row 12 is 'x', and the classes are a, b, c"),
        ([[0, 1, 0], [1, 1, 0], [0, 0, 1]], "row 11 has 3 numbers that are not one 1 among 0"),
        ([[0, 1], [1, 1], [0, 0]], r"are \[2\] a row, and predictions need \[\] or \[1\] or \[3\]"),
        (np.array([1, 2, 3], complex), "are complex128"),
    ],
)
def test_labels_that_do_not_fit_are_refused_by_row(labels, message):
    outputs = Outputs("classes", (3,), 1, ("a", "b", "c"))
    with pytest.raises(DataError, match=message):
        as_targets(np.array(labels), outputs, np.array([10, 11, 12]), source="l.h5:/y", ignore=None)


def test_the_command_prints_a_table_and_writes_json_and_a_page(result, tmp_path, capsys):
    with h5py.File(tmp_path / "l.h5", "w") as file:
        file["y"] = TRUE[:20]
    arguments = ["evaluate", str(result), "--labels-column", "place"]
    assert main(arguments) == 65
    assert "→" in capsys.readouterr().err
    for wrong in (["--labels", "nothing"], ["--labels", str(tmp_path / "no-*.h5:/y")]):
        assert main(["evaluate", str(result), *wrong]) == 2
    found = hpcens.evaluate(result, TRUE)
    found.write_html(tmp_path / "e.html")
    page = (tmp_path / "e.html").read_text()
    assert all(f"<h2>{title}</h2>" in page for title in ("How good", "Reliability", "Confusion", "Coverage"))
    assert main(["evaluate", str(result), "--labels-column", "id", "--html", "page.txt"]) == 2
    assert "name a file that ends in .html" in capsys.readouterr().err
    assert main(["evaluate", str(result), "--labels-column", "id", "-o", str(tmp_path / "no" / "e.json")]) == 2
    assert "no does not exist" in capsys.readouterr().err


def test_images_are_judged_on_the_axis_that_has_their_classes(tmp_path, monkeypatch):
    """Outputs (rows, classes, height, width); labels (rows, height, width), 255 where there is none."""
    random = np.random.default_rng(5)
    maps = random.random((3, ROWS, 4, 3, 2)).astype("f4")
    maps /= maps.sum(2, keepdims=True)
    monkeypatch.setattr(stored, "SHAPE", (4, 3, 2))
    made = dataclasses.replace(spec(), class_axis=1, task="multiclass")
    scored(tmp_path / "r.h5", made, stack=list(maps)).close()
    labels = random.integers(0, 4, (ROWS, 3, 2))
    labels[::7, 0] = 255
    found = hpcens.evaluate(tmp_path / "r.h5", labels, ignore=255)
    known = labels != 255
    with h5py.File(tmp_path / "r.h5") as file:
        guess = file["prediction"][:].argmax(1)
    assert found.ensemble["accuracy"].value == pytest.approx(metrics.accuracy_score(labels[known], guess[known]))
    overlap = metrics.jaccard_score(labels[known], guess[known], average="macro")
    assert found.ensemble["iou"].value == pytest.approx(overlap, rel=1e-12)
    assert found.rows.points == known.sum() and found.leave_one_out["m0"].differences.keys() >= {"accuracy", "iou"}
    with pytest.raises(DataError, match="row 0 is 255, and there are 4 classes, 0–3"):
        hpcens.evaluate(tmp_path / "r.h5", labels)


def test_members_may_have_any_name(tmp_path):
    """Also those by which the ensemble, or what leaves a member out, might be known inside."""
    names = ("m1", "-m1", "the ensemble")
    made = spec()
    members = tuple(dataclasses.replace(m, name=name) for m, name in zip(made.members, names, strict=True))
    scored(tmp_path / "r.h5", dataclasses.replace(made, members=members)).close()
    found, plain = hpcens.evaluate(tmp_path / "r.h5", TRUE), tmp_path / "plain.h5"
    scored(plain, made).close()
    expected = hpcens.evaluate(plain, TRUE)
    assert list(found.members.values()) == list(expected.members.values()) and found.ensemble == expected.ensemble
    assert list(found.leave_one_out.values()) == list(expected.leave_one_out.values())
