"""Calibrations: against scikit-learn and float64 by hand; the same in any chunking; applied by combine; refusals."""

import dataclasses
import json

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from sklearn import metrics
from support import stored
from support.outputs import members as members_of
from support.outputs import softmax
from support.pages import check_page
from support.stored import scored, spec

import hpcens
from hpcens.cli import main
from hpcens.errors import DataError, FingerprintMismatch, UsageError
from hpcens.evaluation import calibrating, order, parts
from hpcens.evaluation.buckets import shares_of_groups, shares_of_rows
from hpcens.evaluation.calibration import missed_notes
from hpcens.evaluation.covering import Sets
from hpcens.evaluation.labels import Outputs
from hpcens.evaluation.order import OrderStatistics
from hpcens.reports.run_page import draw_run
from hpcens.result import Finished, calibrated_of
from hpcens.result.verify import look_through
from hpcens.runs import RunDirectory

ROWS, CLASSES = 3000, 4
RANDOM = np.random.default_rng(3)
TRUE = RANDOM.integers(0, CLASSES, ROWS)
# three members that are surer than they may be
NOISE = RANDOM.normal(0, 1, (ROWS, CLASSES)) + RANDOM.normal(0, 0.3, (3, ROWS, CLASSES))
LOGITS = (3 * (NOISE + 1.2 * np.eye(CLASSES)[TRUE])).astype("f4")
PROBABILITIES = softmax(LOGITS.astype(float)).astype("f4")
VALUES = RANDOM.normal(0, 1, (3, ROWS, 2)) * [1, 50]
MEASURED = VALUES.mean(0) + RANDOM.normal(0, 1, (ROWS, 2)) * [0.2, 30]
HELD = shares_of_rows(0, ROWS, 1) < 0.5
RANKED = ~HELD & (shares_of_rows(0, ROWS, 3) < 0.5)
FITTED = ~HELD & ~RANKED


def of(kind="probabilities", datasets=("prediction", "label", "members", "entropy"), **more):
    made = spec(datasets=datasets, space="logits" if kind == "logits" else None)
    output = {"logits": "logits", "values": "values"}.get(kind, "probabilities")
    task = {"values": "regression", "labels": "multilabel"}.get(kind, "multiclass")
    made = dataclasses.replace(made, members=tuple(members_of([None] * 3, output)), task=task, **more)
    return dataclasses.replace(made, classes=None) if kind == "values" else made


def columns(file):
    file["columns/y"] = TRUE
    file["columns/patient"] = np.arange(ROWS) // 7
    file["columns/part"] = (np.arange(ROWS) % 3 == 0).astype("i1")


def result_of(path, made, space="probabilities", stack=PROBABILITIES, segment=256):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stored, "ROWS", len(stack[0]))
        patch.setattr(stored, "SEGMENT", segment)
        patch.setattr(stored, "SHAPE", stack[0].shape[1:])
        patch.setattr(stored, "columns", columns)
        patch.setattr(stored, "CLASSES", made.classes or ())
        scored(path, made, space, stack).close()
    return path


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """One result of each kind, by its name."""
    folder = tmp_path_factory.mktemp("calibrated")
    no_label = ("prediction", "members")
    made = {
        "probabilities": (of(), "probabilities", PROBABILITIES),
        "logits": (of("logits"), "logits", LOGITS),
        "values": (of("values", no_label), "values", VALUES.astype("f4")),
        "labels": (of("labels", no_label), "probabilities", 1 / (1 + np.exp(-LOGITS))),
    }
    return {name: result_of(folder / f"{name}.h5", *how) for name, how in made.items()}


def mean_of(kind):
    """What the rule gives, as it is stored."""
    return (LOGITS if kind == "logits" else PROBABILITIES).mean(0, dtype=float).astype("f4").astype(float)


def tempered(kind, temperature):
    return softmax((mean_of(kind) if kind == "logits" else np.log(mean_of(kind))) / temperature)


@pytest.mark.parametrize("kind", ["probabilities", "logits"])
def test_temperature_and_sets_are_those_of_float64_by_hand(results, kind):
    found = hpcens.calibrate(results[kind], TRUE, coverage=0.9)
    assert (found.fitted, found.ranked, found.judged) == (FITTED.sum(), RANKED.sum(), HELD.sum())

    def loss(temperature):
        return metrics.log_loss(TRUE[FITTED], tempered(kind, temperature)[FITTED])

    best = minimize_scalar(loss, bounds=(0.05, 20), method="bounded", options={"xatol": 1e-9})
    assert found.temperature == pytest.approx(best.x, rel=1e-5) and found.temperature > 1.2
    probabilities = tempered(kind, found.temperature)
    scores = np.sort(1 - probabilities[np.arange(ROWS), TRUE][RANKED])
    threshold = scores[int(np.ceil((len(scores) + 1) * 0.9)) - 1]
    assert found.calibration.thresholds == pytest.approx((threshold,), rel=1e-12)
    sets = 1 - probabilities <= found.calibration.thresholds[0]
    covered = sets[np.arange(ROWS), TRUE]
    assert found.after["set_coverage"].value == pytest.approx(covered[HELD].mean(), abs=1e-12)
    assert found.after["set_size"].value == pytest.approx(sets[HELD].sum(1).mean(), abs=1e-12)
    assert found.after["empty_sets"].value == (sets[HELD].sum(1) == 0).mean()
    assert 0.87 < found.after["set_coverage"].value < 0.93
    assert found.after["log_loss"].value == pytest.approx(metrics.log_loss(TRUE[HELD], probabilities[HELD]), rel=1e-5)
    raw = softmax(mean_of(kind)) if kind == "logits" else mean_of(kind)
    raw /= raw.sum(-1, keepdims=True)
    assert found.before["log_loss"].value == pytest.approx(metrics.log_loss(TRUE[HELD], raw[HELD]), rel=1e-5)
    assert found.changes["log_loss"].high < 0
    assert found.after["calibration_error"].value < found.before["calibration_error"].value
    assert json.loads(found.to_json())["method"] == "temperature scaling, split conformal: least ambiguous sets"
    assert "not fitted on" in found.to_json() and "rows that it was not fitted on" in found.table


def test_labels_that_do_not_exclude_one_another_have_one_temperature(results):
    true = np.stack([c == TRUE for c in range(CLASSES)], 1).astype(int)
    found = hpcens.calibrate(results["labels"], true, seed=5)
    held = shares_of_rows(0, ROWS, 1 + (5 << 8)) < 0.5
    p = (1 / (1 + np.exp(-LOGITS))).mean(0, dtype=float).astype("f4").astype(float)[~held]

    def loss(temperature):
        scaled = 1 / (1 + np.exp(-(np.log(p) - np.log(1 - p)) / temperature))
        return metrics.log_loss(true[~held].ravel(), scaled.ravel())

    best = minimize_scalar(loss, bounds=(0.05, 20), method="bounded", options={"xatol": 1e-9})
    assert found.temperature == pytest.approx(best.x, rel=1e-5) and found.fitted == (~held).sum() and not found.ranked
    with pytest.raises(UsageError, match="sets are of classes that exclude one another"):
        hpcens.calibrate(results["labels"], true, coverage=0.9)


def test_intervals_of_each_number_are_those_of_the_ranked_errors(results):
    found = hpcens.calibrate(results["values"], MEASURED, coverage=0.8)
    given = VALUES.astype("f4").mean(0, dtype=float).astype("f4").astype(float)
    errors = np.sort(np.abs(MEASURED - given)[~HELD], axis=0)
    rank = int(np.ceil((len(errors) + 1) * 0.8)) - 1
    assert found.calibration.thresholds == pytest.approx(errors[rank], rel=1e-12) and found.temperature is None
    covered = np.abs(MEASURED - given)[HELD] <= errors[rank]
    assert found.after["interval_coverage"].value == pytest.approx(covered.mean(), abs=1e-3)
    assert "<td>interval_coverage</td><td>80 %</td>" in found._repr_html_()
    assert found.after["interval_width"].value == pytest.approx(2 * errors[rank].mean())
    with pytest.raises(UsageError, match=r"values have no temperature\n  → say what .* are to cover: coverage=0\.9"):
        hpcens.calibrate(results["values"], MEASURED)


def test_parts_are_of_groups_of_a_column_or_said_to_be_in_sample(results):
    path = results["probabilities"]
    grouped = hpcens.calibrate(path, TRUE, groups="patient")
    held = shares_of_groups(np.arange(ROWS) // 7, 1) < 0.5
    assert (grouped.fitted, grouped.judged) == ((~held).sum(), held.sum())
    split = hpcens.calibrate(path, labels_column="y", split="part")
    assert (split.fitted, split.judged) == (ROWS // 3, ROWS - ROWS // 3)
    whole = hpcens.calibrate(path, TRUE, holdout=0)
    assert (whole.fitted, whole.judged) == (ROWS, ROWS) and whole.in_sample
    assert "in sample" in whole.table and json.loads(whole.to_json())["measured"]["part"] == "in sample"
    others = hpcens.calibrate(path, TRUE, seed=1)
    assert others.calibration.rows != hpcens.calibrate(path, TRUE).calibration.rows


@settings(max_examples=6, deadline=None)
@given(
    block=st.integers(1, 400),
    segment=st.sampled_from([17, 1000]),
    most=st.sampled_from([1 << 24, 8]),
    kept=st.sampled_from([128 << 20, 40_000]),
    kind=st.sampled_from(["probabilities", "values"]),
)
def test_any_chunking_gives_the_same_bytes(results, tmp_path_factory, block, segment, most, kept, kind):
    of_kind = {"probabilities": (of(), "probabilities", PROBABILITIES), "values": (of("values", ("prediction",)),)}
    labels = TRUE if kind == "probabilities" else MEASURED
    path = tmp_path_factory.mktemp("again") / "r.h5"
    made = of_kind[kind] if kind == "probabilities" else (of_kind[kind][0], "values", VALUES.astype("f4"))
    result_of(path, *made, segment=segment)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(calibrating, "_KEPT_BYTES", kept)
        once = json.loads(hpcens.calibrate(results[kind], labels, coverage=0.9).to_json())
        patch.setattr(order, "_KEPT", most)
        patch.setattr(parts, "_BLOCK_BYTES", 8 * CLASSES * block)
        again = json.loads(hpcens.calibrate(path, labels, coverage=0.9).to_json())
    left = {"result": "", "fingerprint": ""}
    assert {**again, **left} == {**once, **left}
    assert any("drawn by a hash" in note for note in once["notes"]) == (kept < 1 << 20 and kind == "probabilities")


@pytest.mark.parametrize("most", [4, 1 << 24])
def test_order_statistics_are_exact(monkeypatch, most):
    monkeypatch.setattr(order, "_KEPT", most)
    random = np.random.default_rng(0)
    numbers = np.stack([random.random(999), random.integers(0, 3, 999), np.full(999, 0.1)], 1)
    numbers[::10, 0] = np.nan
    for share in (0.001, 0.5, 0.9, 1.0):
        found, passes = OrderStatistics(3), 0
        while not found.done:
            for low in range(0, 999, 100):
                found.add(numbers[low : low + 100])
            ranks = [max(1, int(count * share)) for count in found.counts]
            found.end_pass(ranks if passes == 0 else [0, 0, 0])
            passes += 1
        expected = [np.sort(column[~np.isnan(column)]) for column in numbers.T]
        wanted = [max(1, int(len(column) * share)) for column in expected]
        assert found.values == tuple(column[rank - 1] for column, rank in zip(expected, wanted, strict=True))
        assert (passes > 1) == (most == 4)


def combined(path, tmp_path, tree, name="c"):
    config = tmp_path / f"{name}.yaml"
    config.write_text(json.dumps(tree))
    return hpcens.combine(path, tmp_path / f"{name}.h5", config=config)


@pytest.mark.parametrize("kind", ["probabilities", "logits"])
def test_it_is_applied_to_prediction_label_and_top_and_to_nothing_else(results, tmp_path, kind):
    found = hpcens.calibrate(results[kind], TRUE, coverage=0.9)
    found.write(tmp_path / "calibration.json")
    with pytest.raises(UsageError, match=r"calibration\.json exists"):
        found.write(tmp_path / "calibration.json")
    names = ["prediction", "label", "top-2", "members", "entropy", "set"]
    with combined(
        results[kind],
        tmp_path,
        {"calibration": "calibration.json", "output": {"datasets": names}, "rule": {"name": "mean", "space": kind}},
    ) as result:
        expected = tempered(kind, found.temperature)
        wanted = mean_of(kind) / found.temperature if kind == "logits" else expected
        assert result["prediction"][:] == pytest.approx(wanted, rel=1e-5, abs=1e-9)
        assert np.array_equal(result["label"][:], result["prediction"][:].argmax(1))
        assert np.array_equal(result["top_labels"][:, 0], result["label"][:])
        assert np.array_equal(result["top_values"][:, 0], result["prediction"][:].max(1))
        assert np.array_equal(result["set"][:], 1 - expected <= found.calibration.thresholds[0])
        assert result["set"].dtype == np.uint8 and result["set"].dims == ("row", "class")
        with hpcens.open(results[kind]) as raw:
            for name in ("members/m0", "entropy"):
                assert np.array_equal(result[name][:], raw[name][:])
                assert result[name].description.endswith("before calibration")
        assert f"calibrated at temperature {found.temperature:.6g}" in result["prediction"].description
        assert result.provenance.fingerprint["rule"]["calibration"]["digest"] == found.calibration.digest
        assert result.provenance.fingerprint["format"] == 2
    assert all("/gone is gone" in fault for fault in look_through(tmp_path / "c.h5").faults)
    page = draw_run(RunDirectory.of(tmp_path / "c.h5"), tmp_path / "c.h5")
    assert f"temperature {found.temperature:.6g}, coverage 90 %; fitted on {FITTED.sum() + RANKED.sum():,} rows" in page
    judged = hpcens.evaluate(tmp_path / "c.h5", TRUE)
    covered = (1 - expected <= found.calibration.thresholds[0])[np.arange(ROWS), TRUE]
    assert judged.ensemble["set_coverage"].value == pytest.approx(covered.mean(), abs=1e-12)
    notes = " ".join(judged.notes)
    assert "its members are not" in notes and "promised to hold 90 %" in notes and "in sample:" in notes
    rows = hpcens.export(tmp_path / "c.h5", tmp_path / "c.csv", ["set", "label"])
    head, first = (tmp_path / "c.csv").read_text().splitlines()[:2]
    assert rows == ROWS and head == "set.ant,set.bee,set.cat,set.dog,label"
    assert len(first.split(",")) == len(head.split(","))


def test_intervals_are_stored_and_never_narrower_for_being_rounded(results, tmp_path):
    found = hpcens.calibrate(results["values"], MEASURED, coverage=0.8)
    found.write(tmp_path / "calibration.json")
    for dtype in ("float32", "float16"):
        tree = {"calibration": "calibration.json", "output": {"datasets": ["prediction", "interval"], "dtype": dtype}}
        with combined(results["values"], tmp_path, tree, dtype) as result:
            given = VALUES.astype("f4").mean(0, dtype=float).astype("f4").astype(float)
            ends = result["interval"][:].astype(float)
            half = np.array(found.calibration.thresholds)
            assert ends.shape == (ROWS, 2, 2) and (ends[..., 0] <= given - half).all()
            assert (ends[..., 1] >= given + half).all()
            assert ends[..., 1] - ends[..., 0] == pytest.approx(
                np.broadcast_to(2 * half, given.shape), rel=1e-5 if dtype == "float32" else 5e-2, abs=2e-3
            )
            judged = hpcens.evaluate(result, MEASURED, ensemble_only=True)
            assert judged.ensemble["interval_coverage"].value == pytest.approx(
                (np.abs(MEASURED - given) <= half).mean(), abs=2e-3
            )
    default = combined(results["values"], tmp_path, {"calibration": "calibration.json"}, "default")
    assert "interval" in default.names
    assert list(default.config.output.datasets) == ["prediction", "members", "interval"]


def test_combine_drops_it_where_that_is_said_and_refuses_another_rule(results, tmp_path, capsys):
    path = results["probabilities"]
    hpcens.calibrate(path, TRUE, coverage=0.9).write(tmp_path / "calibration.json")
    calibrated = combined(path, tmp_path, {"calibration": "calibration.json"}).path
    with pytest.raises(UsageError, match=r"is calibrated already\n  → combine it without first"):
        hpcens.calibrate(calibrated, TRUE)
    again = combined(calibrated, tmp_path, {"output": {"datasets": ["prediction", "set"]}}, "kept")
    with hpcens.open(calibrated) as whole:
        assert np.array_equal(again["prediction"][:], whole["prediction"][:])
        assert np.array_equal(again["set"][:], whole["set"][:])
    bare = combined(calibrated, tmp_path, {"calibration": False}, "bare")
    with hpcens.open(path) as raw:
        assert np.array_equal(bare["prediction"][:], raw["prediction"][:]) and "set" not in bare.names
        assert bare.provenance.fingerprint == raw.provenance.fingerprint
    with pytest.raises(FingerprintMismatch, match=r"rule\.name: mean then, median now\n  → .*calibration: false"):
        hpcens.combine(calibrated, tmp_path / "m.h5", rule="median")
    hpcens.combine(calibrated, tmp_path / "m.h5", config=write(tmp_path, {"rule": "median", "calibration": False}))
    assert main(["combine", str(path), "-c", str(tmp_path / "c.yaml"), "-o", str(tmp_path / "c.h5")]) == 0
    assert "is complete already" in capsys.readouterr().out


def write(folder, tree):
    (folder / "w.yaml").write_text(json.dumps(tree))
    return folder / "w.yaml"


@pytest.mark.parametrize(
    ("made", "options", "message"),
    [
        (of(datasets=("label", "members")), {}, "does not hold its predictions"),
        (of(output=dataclasses.replace(of().output, dtype="float16")), {}, "holds its predictions rounded"),
        (of(), {"coverage": 0.9999}, "coverage of 0.9999 takes 9999 labels or more to rank, and there are"),
        (of(), {"coverage": 1.5}, "coverage of 1.5 is no share"),
        (of(), {"holdout": 1.0}, "holdout of 1.0 leaves no row to fit on"),
        (of(), {"seed": -1}, "the seed -1 is not 0 to"),
        (of(), {"holdout": 0.5, "split": "part"}, "by holdout or by split"),
        (of(), {"split": "patient"}, "split: row 14 is 2\n  → name a column of 1"),
        (of(), {"split": "none"}, "split='none': .* has no such column"),
    ],
)
def test_what_cannot_be_calibrated_is_refused(tmp_path, made, options, message):
    with pytest.raises((UsageError, DataError), match=message):
        hpcens.calibrate(result_of(tmp_path / "r.h5", made), TRUE, **options)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (TRUE[:20], "20 labels are given, and the result has 3000 rows"),
        (TRUE.astype(float) * np.where(np.arange(ROWS) == 40, np.nan, 1), r"row 40 is nan: is not finite"),
        (TRUE + 1, r"is 4, and there are 4 classes"),
        (np.array(["ant", "bee", "cat", "eel"])[TRUE], "is 'eel', and the classes are ant, bee, cat, dog"),
        (TRUE.astype("M8[s]"), "labels of an array are datetime64"),
    ],
)
def test_labels_that_do_not_fit_are_refused(results, labels, message):
    with pytest.raises(DataError, match=message):
        hpcens.calibrate(results["probabilities"], labels)


def test_what_is_to_be_known_is_noted(results, tmp_path):
    path = results["probabilities"]
    few = np.where(TRUE == 3, -1, TRUE)
    notes = hpcens.calibrate(path, few, ignore=-1).notes
    assert notes == ("no label that it was fitted on is dog: it says nothing of rows that are",)
    mixed = np.where((TRUE == 2) & (np.arange(ROWS) % 2 == 0), 3, TRUE)
    found = hpcens.calibrate(path, mixed, coverage=0.8)
    missed = "sets hold the true class less often than promised where it is dog in"
    assert missed in found.table
    found.write(tmp_path / "calibration.json")
    calibrated = combined(path, tmp_path, {"calibration": "calibration.json"}).path
    assert any(note.startswith(missed) for note in hpcens.evaluate(calibrated, mixed, ensemble_only=True).notes)
    right = PROBABILITIES.mean(0).argmax(1)
    found = hpcens.calibrate(path, right)
    assert found.temperature == 0.01 and "at its limit" in " ".join(found.notes)


def test_the_command_writes_what_a_configuration_names(results, tmp_path, capsys):
    file = tmp_path / "calibration.json"
    arguments = ["calibrate", str(results["probabilities"]), "--labels-column", "y", "-o", str(file)]
    assert main([*arguments, "--coverage", "0.9", "--groups", "patient", "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out) == json.loads(file.read_text()) and "next: calibration:" in err
    assert main(arguments) == 2 and "exists" in capsys.readouterr().err
    file.unlink()
    html = tmp_path / "calibration.html"
    assert main([*arguments, "--coverage", "0.9", "--holdout", "0.25", "--html", str(html)]) == 0
    printed = capsys.readouterr().out
    assert len(check_page(page := html.read_text())) == 2, "reliability before and after"
    assert all(f"<h2>{title}</h2>" in page for title in ("Before and after", "Reliability", "Coverage"))
    assert "<td>set_coverage</td><td>90 %</td>" in page
    assert "temperature " in printed and "set_coverage: promised 90 %, measured" in printed
    with h5py.File(results["probabilities"]) as source:
        tree = json.loads(source.attrs["fingerprint"])
    written = json.loads(file.read_text())
    assert written["made_of"]["rule"] == tree["rule"] and [*written["made_of"]["members"]] == ["m0", "m1", "m2"]


def test_selecting_from_a_calibrated_result_leaves_the_calibration_out(results, tmp_path):
    path = results["probabilities"]
    hpcens.calibrate(path, TRUE, coverage=0.9).write(tmp_path / "calibration.json")
    calibrated = combined(path, tmp_path, {"calibration": "calibration.json"}).path
    chosen = hpcens.select(calibrated, TRUE)
    assert any("calibration is of all its members" in note for note in chosen.notes)
    assert chosen.spec.calibration is None and "set" not in chosen.spec.output.datasets
    finished = Finished(calibrated)
    assert finished.attributes["calibration"] and json.loads(finished.attributes["calibration"])["n"] > 0
    finished.close()


def test_points_of_a_row_count_each_and_classes_lie_on_their_axis(tmp_path):
    """Rows of five points, three classes on axis 1, under a rule whose probabilities do not add up to 1."""
    random = np.random.default_rng(2)
    true = random.integers(0, 3, (600, 5))
    logits = random.normal(0, 1.5, (2, 600, 3, 5)) + 2 * np.moveaxis(np.eye(3)[true], -1, 1)
    stack = np.moveaxis(softmax(np.moveaxis(logits, 2, -1)), -1, 2).astype("f4")
    made = of(datasets=("prediction", "members"), class_axis=1)
    made = dataclasses.replace(made, rule=dataclasses.replace(made.rule, name="max"), classes=("a", "b", "c"))
    made = dataclasses.replace(made, members=made.members[:2])
    path = result_of(tmp_path / "r.h5", made, "probabilities", stack)
    labels = np.where(random.random(true.shape) < 0.2, -1, true)
    found = hpcens.calibrate(path, labels, ignore=-1, coverage=0.75)
    given = np.moveaxis(stack.max(0).astype(float), 1, -1)
    probabilities = softmax(np.log(given) / found.temperature)
    held = shares_of_rows(0, 600, 1) < 0.5
    ranked = ~held & (shares_of_rows(0, 600, 3) < 0.5)
    scores = 1 - np.take_along_axis(probabilities, true[..., None], -1)[..., 0]
    of_rank = np.sort(scores[ranked][labels[ranked] >= 0])
    assert found.calibration.thresholds == pytest.approx((of_rank[int(np.ceil((len(of_rank) + 1) * 0.75)) - 1],))
    counted = held[:, None] & (labels >= 0)
    covered = (scores <= found.calibration.thresholds[0])[counted].mean()
    assert found.after["set_coverage"].value == pytest.approx(covered, abs=1e-12)
    assert "points of one row depend on each other" in " ".join(found.notes)
    found.write(tmp_path / "calibration.json")
    with combined(path, tmp_path, {"calibration": "calibration.json", "rule": "max"}) as result:
        assert np.moveaxis(result["prediction"][:], 1, -1) == pytest.approx(probabilities, abs=1e-6)
        assert result["prediction"].attributes["sums_to_one"] and result["set"].dims == ("row", "class", "axis_2")
        assert np.array_equal(np.moveaxis(result["set"][:], 1, -1), 1 - probabilities <= found.calibration.thresholds)
    judged = hpcens.evaluate(result.path, labels, ignore=-1)
    assert judged.ensemble["set_coverage"].value == pytest.approx(
        (scores <= found.calibration.thresholds[0])[labels >= 0].mean(), abs=1e-12
    )


def test_rows_and_batch_sizes_may_be_others():
    branches = {"name": "mean", "space": "probabilities", "calibration": {"digest": "0"}}
    member = {"weights": "0", "output": "logits", "numerics": {"batch": 8, "runtime": "eager", "precision": "float32"}}
    tree = {"members": {"a": member}, "rule": branches, "outputs": {"classes": ["x"]}, "data": {"rows": 3}}
    other = {**member, "numerics": {"batch": 16, "runtime": "frozen", "precision": "float32"}}
    assert calibrated_of(tree) == calibrated_of({**tree, "members": {"a": other}, "data": {"rows": 4}})
    half = {**member, "numerics": {"batch": 8, "runtime": "eager", "precision": "float16"}}
    assert calibrated_of(tree) != calibrated_of({**tree, "members": {"a": half}})


def test_a_class_that_sets_miss_more_often_than_promised_is_named():
    labels = np.repeat([0, 1, 2], [100, 100, 6])[:, None]
    sets = np.ones((206, 1, 3), np.uint8)
    sets[:15, 0, 0] = sets[100:130, 0, 1] = sets[200:203, 0, 2] = 0  # 85 %, 70 %, and 50 % of six
    judge = Sets(3)
    judge.add(np.zeros(206, int), sets, labels)
    assert [*judge.missed(0.9)] == [(1, 100, 0.7), (2, 6, 0.5)]
    named = Outputs("classes", (3,), 1, ("a", "b", "c"))
    [note] = missed_notes(0.9, judge, named)
    assert note == "sets hold the true class less often than promised where it is c in 50.0 % of 6, b in 70.0 % of 100"
    assert [*missed_notes(0.5, judge, named)] == [] == [*missed_notes(0.5, None, named)]
