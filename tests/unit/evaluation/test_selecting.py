"""Members chosen by labels: against a search by hand and scipy's NNLS; the same in any chunking; the YAML they give."""

import dataclasses
import json

import h5py
import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import nnls
from sklearn import metrics
from support import stored
from support.outputs import members as members_of
from support.outputs import softmax
from support.pages import check_page
from support.stored import ROWS, STACK, columns, scored, spec

import hpcens
from hpcens.cli import main
from hpcens.config.written import yaml_of
from hpcens.errors import DataError, UsageError
from hpcens.evaluation import selecting
from hpcens.evaluation.buckets import shares_of_groups, shares_of_rows
from hpcens.evaluation.choosing import ROUNDS, Candidate, Sample, combined, frontier
from hpcens.evaluation.labels import Outputs
from hpcens.evaluation.losses import Loss
from hpcens.reports.selection_page import draw
from hpcens.vocabulary import Device, MemberNumerics, Numerics, Plan
from hpcens.vocabulary.plan import Hosting

TRUE = np.where(np.random.default_rng(7).random(ROWS) < 0.6, STACK.mean(0).argmax(1), np.arange(ROWS) % 4)
RANDOM = np.random.default_rng(11)
MANY, SIZE, MEMBERS = 3000, 5, 4
LABELS = RANDOM.integers(0, SIZE, MANY)
LOGITS = RANDOM.normal(0, 1.5, (MEMBERS, MANY, SIZE)) + 1.5 * (LABELS[:, None] == np.arange(SIZE))
LOGITS[3] *= 3  # surer than it may be


def sample(by="log_loss", space="probabilities", costs=(1.0,) * MEMBERS):
    loss = Loss(Outputs("classes", (SIZE,), 1), space, by, 2.0**-52)
    values = LOGITS if space == "logits" else softmax(LOGITS)
    terms = np.stack([loss.terms(member[:, None], LABELS[:, None]) for member in values])
    return Sample(loss, terms, np.ones((MANY, 1), bool), costs)


def scikit_loss(values, by="log_loss"):
    if by == "log_loss":
        return metrics.log_loss(LABELS, values)
    return ((values - np.eye(SIZE)[LABELS]) ** 2).sum(1).mean()


@pytest.mark.parametrize(
    ("by", "space"), [("log_loss", "probabilities"), ("log_loss", "logits"), ("squared_error", "probabilities")]
)
def test_greedy_takes_what_a_search_by_hand_takes(by, space):
    values = LOGITS if space == "logits" else softmax(LOGITS)
    after = softmax if space == "logits" else np.asarray
    taken, expected = [], []
    for _ in range(ROUNDS):
        tried = [scikit_loss(after(values[[*taken, i]].mean(0)), by) for i in range(MEMBERS)]
        taken.append(int(np.argmin(tried)))
        expected.append(min(tried))
    found = sample(by, space).greedy(np.inf)
    assert [each.weights for each in found] == [
        tuple(np.bincount(taken[:n], minlength=MEMBERS)) for n in range(1, ROUNDS + 1)
    ]
    assert [each.loss for each in found] == pytest.approx(expected, rel=1e-12)


def test_weights_by_squared_error_are_those_of_nnls():
    """A row that asks, very much, that they add up to 1 makes it the same problem."""
    residuals = (softmax(LOGITS) - np.eye(SIZE)[LABELS]).reshape(MEMBERS, -1).T
    solved, _ = nnls(np.vstack([residuals, np.full(MEMBERS, 1e5)]), np.append(np.zeros(len(residuals)), 1e5))
    [whole, *fewer] = sample("squared_error").weighted()
    assert whole.weights == pytest.approx(solved / solved.sum(), abs=1e-4) and len(fewer) == MEMBERS - 1


@pytest.mark.parametrize("space", ["probabilities", "logits"])
def test_weights_by_log_loss_are_least_and_no_worse_than_those_of_greedy(space):
    chosen = sample(space=space)
    whole = chosen.weighted()[0]
    assert whole.loss <= min(each.loss for each in chosen.greedy(np.inf)) + 1e-7
    values, after = (LOGITS, softmax) if space == "logits" else (softmax(LOGITS), np.asarray)
    best = np.tensordot(whole.weights, values, 1)
    assert whole.loss == pytest.approx(scikit_loss(after(best)), rel=1e-9)
    for i in range(MEMBERS):  # convex: no better way towards any member
        moved = np.tensordot(0.99 * np.array(whole.weights) + 0.01 * np.eye(MEMBERS)[i], values, 1)
        assert scikit_loss(after(moved)) >= whole.loss - 1e-7


def test_a_budget_holds_and_the_frontier_has_none_that_another_beats():
    chosen = sample(costs=(4.0, 3.0, 2.0, 1.0))
    assert all(each.cost <= 5 for each in chosen.greedy(5.0)) and chosen.greedy(0.5) == []
    one, two, worse = Candidate((1, 0), 2.0, 1.0), Candidate((1, 1), 1.0, 2.0), Candidate((0, 1), 1.5, 2.0)
    assert frontier([worse, two, one]) == [one, two] and frontier([two, Candidate((1, 2), 1.0, 3.0)]) == [two]


def test_parts_are_dealt_by_row_or_by_group():
    shares = shares_of_rows(0, 20000, 1)
    assert abs((shares < 0.5).mean() - 0.5) < 0.02 and np.array_equal(shares[7000:], shares_of_rows(7000, 13000, 1))
    assert abs(np.corrcoef(shares, shares_of_rows(0, 20000, 2))[0, 1]) < 0.02
    groups = np.arange(100) // 10
    assert len(np.unique(shares_of_groups(groups, 1))) == 10


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    path = tmp_path_factory.mktemp("selected") / "r.h5"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stored, "columns", lambda file: (columns(file), file.create_dataset("columns/y", data=TRUE)))
        scored(path, spec()).close()
    plan = Plan(
        planner="optimal",
        devices=tuple(Device(name, "cpu", "cpu", 1) for name in "ab"),
        hostings=(Hosting(("a", "b"), 0, {"m0": 30.0, "m1": 20.0, "m2": 60.0}, {"m0": 10.0, "m1": 10.0, "m2": 10.0}),),
        numerics=Numerics(16, {name: MemberNumerics(8, "eager") for name in ("m0", "m1", "m2")}, ("cpu",), "2.0"),
        **dict(rows=ROWS, row_bytes=8, output_bytes=8, differences={}, loading=0, throughput=1, bound=1, limit=""),
        **dict(window=4, read_ahead=3),
    )
    with h5py.File(path, "r+") as file:
        del file["hpcens/plan"]
        file["hpcens/plan"] = np.frombuffer(plan.to_json().encode(), np.uint8)
    return path


def test_scores_are_those_of_the_part_that_nothing_was_chosen_on(result):
    found = hpcens.select(result, TRUE)
    judged = shares_of_rows(0, ROWS, 1) < 0.5
    assert (found.chosen_on, found.kept, found.judged_on) == ((~judged).sum(), (~judged).sum(), judged.sum())
    values = STACK.astype(float)
    values /= values.sum(-1, keepdims=True)  # of float32
    weights = np.array([found.weights.get(f"m{i}", 0.0) for i in range(3)])
    mixed = np.tensordot(weights / weights.sum(), values, 1)
    for score, of in (
        (found.chosen.score, mixed),
        (found.all_members.score, values.mean(0)),
        (found.best, values[int(found.best_member[1])]),
    ):
        assert score.value == pytest.approx(metrics.log_loss(TRUE[judged], of[judged], labels=range(4)), rel=1e-6)
        assert score.low < score.value < score.high
    assert found.less_all_members.value == pytest.approx(found.chosen.score.value - found.all_members.score.value)
    hours = {f"m{i}": ROWS / speed / 3600 for i, speed in enumerate((30, 20, 60))}
    for step in found.frontier:
        assert step.hours == pytest.approx(sum(hours[name] for name in step.weights))
        assert step.work == pytest.approx(step.hours / sum(hours.values()))
    assert [step.hours for step in found.frontier] == sorted(step.hours for step in found.frontier)


def test_a_column_may_say_which_rows_are_chosen_on(tmp_path):
    made = tmp_path / "r.h5"
    part = (np.arange(ROWS) % 5 == 0).astype("i1")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stored, "columns", lambda file: (columns(file), file.create_dataset("columns/part", data=part)))
        scored(made, spec()).close()
    found = hpcens.select(made, TRUE, split="part", method="weights")
    assert (found.chosen_on, found.judged_on) == (part.sum(), ROWS - part.sum())
    weights = np.array([found.weights.get(f"m{i}", 0.0) for i in range(3)])
    mixed = np.tensordot(weights / weights.sum(), STACK.astype(float), 1)[part == 0]
    mixed /= mixed.sum(1, keepdims=True)
    assert found.chosen.score.value == pytest.approx(
        metrics.log_loss(TRUE[part == 0], mixed, labels=range(4)), rel=1e-6
    )
    with pytest.raises(DataError, match="split: row 2 is 2\n  → name a column of 1, where rows are fitted or chosen"):
        hpcens.select(made, TRUE, split="id")
    with pytest.raises(UsageError, match="by holdout or by split"):
        hpcens.select(made, TRUE, split="part", holdout=0.3)


@pytest.mark.parametrize("method", ["greedy", "weights"])
def test_a_budget_is_device_hours_of_the_plan(result, method):
    found = hpcens.select(result, TRUE, method=method, budget=ROWS / 30 / 3600 * 1.01)
    assert found.chosen.hours <= found.budget and len(found.weights) == 1
    with pytest.raises(
        UsageError,
        match=r"budget of 1e-05 device-hours is less than any member takes\n  → the cheapest, m2, takes 0\.000231",
    ):
        hpcens.select(result, TRUE, budget=1e-5)


@settings(max_examples=12, deadline=None)
@given(
    block=st.integers(1, ROWS),
    kept=st.sampled_from([128 << 20, 8 * 3 * 8]),
    method=st.sampled_from(["greedy", "weights"]),
    segment=st.sampled_from([5, 16]),
)
def test_any_chunking_gives_the_same_choice(result, tmp_path_factory, block, kept, method, segment):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(selecting, "_KEPT_BYTES", kept)
        once = json.loads(hpcens.select(result, TRUE, method=method).to_json())
        patch.setattr(selecting, "_BLOCK_BYTES", 8 * 3 * 4 * block)
        patch.setattr(stored, "SEGMENT", segment)
        path = tmp_path_factory.mktemp("again") / "r.h5"
        scored(path, spec()).close()
        with h5py.File(result) as source, h5py.File(path, "r+") as file:
            del file["hpcens/plan"]
            source.copy("hpcens/plan", file["hpcens"])
        again = json.loads(hpcens.select(path, TRUE, method=method).to_json())
    assert {**again, "fingerprint": ""} == {**once, "fingerprint": ""}
    assert (once["rows"]["kept"] < once["rows"]["chosen_on"]) == (kept < 1000)


def test_a_sample_is_told(result, monkeypatch):
    monkeypatch.setattr(selecting, "_KEPT_BYTES", 8 * 3 * 8)
    assert "of that part, drawn by a hash of their number" in repr(hpcens.select(result, TRUE))


def test_values_are_chosen_by_squared_error(tmp_path):
    made = dataclasses.replace(spec(), members=tuple(members_of([None] * 3, "values")), classes=None, task="regression")
    scored(tmp_path / "r.h5", made, "values").close()
    labels = 0.75 * STACK[0].astype(float) + 0.25 * STACK[2]
    found = hpcens.select(tmp_path / "r.h5", labels, method="weights")
    assert found.measure == "mean_squared_error" and found.weights == pytest.approx({"m0": 0.75, "m2": 0.25}, abs=2e-3)
    with pytest.raises(UsageError, match=r"log_loss is for classes, and these are values\n  → choose by squared_error"):
        hpcens.select(tmp_path / "r.h5", labels, by="log_loss")


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (spec(datasets=("prediction",)), r"does not hold the outputs of its members \(m0, m1, m2\)"),
        (spec("median"), r"rule median of .* takes no weights\n  → combine it by mean first"),
        (spec(dtype="float16"), "holds the outputs of m0, m1, m2 as float16, rounded"),
    ],
)
def test_what_cannot_be_selected_from_is_refused(tmp_path, made, message):
    scored(tmp_path / "r.h5", made).close()
    with pytest.raises(UsageError, match=message):
        hpcens.select(tmp_path / "r.h5", TRUE)


def test_labels_of_another_length_are_refused(result):
    with pytest.raises(DataError, match="20 labels are given, and the result has 50 rows"):
        hpcens.select(result, TRUE[:20])


def test_the_command_writes_a_configuration_that_combine_takes(result, tmp_path, capsys):
    selected = tmp_path / "selected.yaml"
    arguments = ["select", str(result), "--labels-column", "y", "-o", str(selected)]
    assert main([*arguments[:3], "id", *arguments[4:]]) == 65 and not selected.exists()
    assert "row 4 is 4, and there are 4 classes" in capsys.readouterr().err
    assert main([*arguments, "--html", "page.txt"]) == 2 and not selected.exists()
    html = tmp_path / "selected.html"
    assert main([*arguments, "--budget", "0.5", "--groups", "columns/tag", "--html", str(html)]) == 0
    printed = capsys.readouterr().out
    assert "selected.html" in printed.splitlines()[-1]
    check_page(page := html.read_text())
    assert all(f"<h2>{title}</h2>" in page for title in ("What it is worth", "Quality against cost", "Step by step"))
    assert all(text in printed for text in ("chosen by greedy", "← chosen", "all members", "less is better"))
    assert main(arguments) == 2 and "exists" in capsys.readouterr().err
    config = hpcens.load_config(selected)
    weights = {member.name: member.weight for member in config.members}
    assert config.output.path == tmp_path / "selected.predictions.h5" and config.rule.name in ("mean", "weighted")
    assert main(["combine", str(result), "-c", str(selected), "-o", str(tmp_path / "c.h5")]) == 0
    with h5py.File(tmp_path / "c.h5") as file:
        values = np.average(STACK[[int(n[1]) for n in weights]], axis=0, weights=[w or 1 for w in weights.values()])
        assert file["prediction"][:] == pytest.approx(values, rel=1e-6)


def test_the_page_draws_every_step_and_what_was_chosen(result):
    found = hpcens.select(result, labels_column="y")
    [drawing] = check_page(found._repr_html_())[:1]
    dots = [(shape.get("class"), shape[0].text) for shape in drawing.iter() if shape.tag.endswith("circle")]
    assert len(dots) == len(found.frontier) + 1 and [kind for kind, _ in dots].count("second") == 1
    titles = [
        f"{', '.join(f'{name} {weight:g}' for name, weight in step.weights.items())}: " for step in found.frontier
    ]
    assert all(said.startswith(title) for (_, said), title in zip(dots, titles, strict=False))
    bare = dataclasses.replace(
        found, frontier=[dataclasses.replace(step, hours=None, work=None) for step in found.frontier]
    )
    assert ">members<" in draw(bare), "without a plan members are counted"


def test_a_configuration_is_read_as_it_was_written(tmp_path):
    (tmp_path / "nets.py").write_text("")
    tree = {
        "members": [
            {
                "name": "a",
                "factory": "nets:A",
                "arguments": {"n": 2},
                "weights": "factory",
                "weight": 2,
                "output": "logits",
            },
            {
                "name": "b",
                "torchscript": "b.pt",
                "weight": 1.5,
                "trust": "file_access",
                "files": "x.npz",
                "preprocess": [{"scale": "1/255"}, {"resize": 8}],
            },
            {
                "name": "c",
                "factory": "nets:C",
                "weights": {"path": "c.ckpt", "key": "state"},
                "weight": 0.1,
                "precision": "float64",
            },
        ],
        "rule": {"name": "weighted", "space": "logits"},
        "classes": 3,
        "dataset": {"inputs": {"x": {"path": "t", "axis": 1, "decode": True}}, "select": "mask", "columns": ["id"]},
        "devices": {"cuda": "all", "cpu": {"count": 2, "memory": "1GiB"}},
        "output": {"datasets": ["prediction", "top-2"], "compression": "gzip"},
        "slurm": {"time": 90, "setup": "a\nb", "srun": {"mem": 0}},
        "plan": {"batch_sizes": [4, 2]},
    }
    (tmp_path / "one.yaml").write_text(yaml.safe_dump(tree))
    read = hpcens.load_config(tmp_path / "one.yaml")
    (tmp_path / "two.yaml").write_text(yaml_of(read, tmp_path))
    assert hpcens.load_config(tmp_path / "two.yaml") == read
    with pytest.raises(
        UsageError, match=r"code of members \(nets\) is imported from .*\n  → write the YAML into that folder"
    ):
        yaml_of(read, tmp_path / "other")


@pytest.mark.parametrize(
    ("kind", "space", "by"),
    [
        ("classes", "probabilities", "log_loss"),
        ("classes", "logits", "log_loss"),
        ("classes", "probabilities", "squared_error"),
        ("labels", "probabilities", "log_loss"),
        ("labels", "logits", "log_loss"),
        ("labels", "probabilities", "squared_error"),
        ("values", "values", "squared_error"),
    ],
)
def test_losses_and_their_slopes_are_those_of_the_outputs_themselves(kind, space, by):
    """Of 3 points a row, some without a target: mixed before or after, and moved by a little."""
    random = np.random.default_rng(2)
    places, rows = 3, 20
    shape, axis = ((places,), None) if kind == "values" else ((2, places), 1)
    outputs = Outputs(kind, shape, axis)
    logits = random.normal(0, 1, (2, rows, *shape))
    values = logits
    if space == "probabilities":
        values = 1 / (1 + np.exp(-logits)) if kind == "labels" else softmax(logits.swapaxes(2, 3)).swapaxes(2, 3)
    targets = random.normal(0, 1, (rows, places))
    if kind != "values":
        targets = random.integers(0, 2, (rows, places, 2) if kind == "labels" else (rows, places))
    targets[::3, 1] = np.nan if kind == "values" else -1
    loss = Loss(outputs, space, by, 2.0**-52)
    terms = [loss.terms(outputs.flat(member), targets) for member in values]
    known = loss.known(targets)
    assert terms[0].shape == (rows, loss.points, loss.depth) and known.shape == terms[0].shape[:2]
    mixed = outputs.flat(np.average(values, axis=0, weights=[1, 3]))
    if kind == "values":
        expected = (mixed - targets) ** 2
    else:
        chances = (
            mixed if space == "probabilities" else 1 / (1 + np.exp(-mixed)) if kind == "labels" else softmax(mixed)
        )
        wanted = targets == 1 if kind == "labels" else targets[..., None] == np.arange(2)
        truth = np.where(wanted, chances, 1 - chances) if kind == "labels" else np.where(wanted, chances, 0).sum(-1)
        squares = (chances - wanted) ** 2
        expected = (
            -np.log(np.maximum(truth, 1e-9)) if by == "log_loss" else squares if kind == "labels" else squares.sum(-1)
        )
    both = combined([1.0, 3.0], terms)
    found = loss.losses(both, known)
    assert found[known] == pytest.approx(expected.reshape(rows, -1)[known], rel=1e-12) and not found[~known].any()
    toward = 1e-6 * (terms[0] - both)
    change = loss.losses(both + toward, known) - loss.losses(both - toward, known)
    assert change == pytest.approx(2 * (loss.slopes(both, known) * toward).sum(-1), rel=1e-4, abs=1e-14)


def test_all_members_have_the_score_that_evaluate_gives_the_ensemble(tmp_path):
    """Of logits, and of rows of the other part alone; without a label in one part there is nothing to choose on."""
    made = dataclasses.replace(spec(space="logits"), members=tuple(members_of([None] * 3, "logits")))
    scored(tmp_path / "r.h5", made, "logits").close()
    judged = shares_of_rows(0, ROWS, 1) < 0.5
    labels = np.where(judged, TRUE, -1)
    expected = hpcens.evaluate(tmp_path / "r.h5", labels, ignore=-1).ensemble["log_loss"]
    found = hpcens.select(tmp_path / "r.h5", TRUE).all_members.score
    assert found.value == pytest.approx(expected.value, rel=1e-6)
    with pytest.raises(DataError, match="no row is left to choose on"):
        hpcens.select(tmp_path / "r.h5", labels, ignore=-1)
    with pytest.raises(UsageError, match="squared_error of logits says nothing of classes"):
        hpcens.select(tmp_path / "r.h5", TRUE, by="squared_error")
