"""Whole runs of every task over MPI, held against scikit-learn and float64: no number is taken for another."""

import h5py
import numpy as np
import pytest
import torch
from scipy.special import entr, softmax
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.multiclass import OneVsRestClassifier
from support.project import Project

pytestmark = pytest.mark.mpi
NETS = """
import torch
from torch import nn

class Linear(nn.Module):
    '''Coefficients of scikit-learn, as a network.'''
    def __init__(self, outputs, squeeze=False):
        super().__init__()
        self.layer, self.squeeze = nn.Linear(12, outputs), squeeze

    def forward(self, x):
        x = self.layer(torch.nan_to_num(x))
        return x[:, 0] if self.squeeze else x

class Segmentation(nn.Module):
    '''(batch, 1, height, width) to logits (batch, classes, height, width); or with the classes last.'''
    def __init__(self, last=False, classes=4):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, classes, 1))
        self.last = last

    def forward(self, x):
        x = self.body(x)
        return x.movedim(1, -1) if self.last else x
"""
HEAD = "dataset: {input: x}\ndevices: {cpu: 2}\nplan: {batch_sizes: [16], runtime: eager}\n"
CLOSE = dict(rtol=0, atol=2e-6)


@pytest.fixture
def folder(tmp_path, weights, cache):
    made = Project(tmp_path, weights, cache)
    (tmp_path / "tasks.py").write_text(NETS)
    yield made
    made.end()


def stored(project, x):
    with h5py.File(project.dataset, "w") as file:
        file["x"] = x.astype(np.float32)
    return x.astype(np.float32).astype(np.float64)


def configured(project, members, extra):
    """A member is its keys and the state dict of its network."""
    lines = ["members:"]
    for name, (keys, state) in members.items():
        torch.save(state, project.folder / f"{name}.pt")
        lines.append(f"  - {{name: {name}, weights: {name}.pt, {keys}}}")
    (project.folder / "hpcens.yaml").write_text("\n".join([*lines, HEAD, extra]))


def linear(estimator):
    """The coefficients of an estimator of scikit-learn as a state dict."""
    weight, bias = np.atleast_2d(estimator.coef_), np.atleast_1d(estimator.intercept_)
    return {"layer.weight": torch.from_numpy(weight).float(), "layer.bias": torch.from_numpy(bias).float()}


def result(project):
    with h5py.File(project.output) as file:
        return {name: file[name][()] for name in file.attrs["outputs"]}


def trained(seed=0):
    draw = np.random.default_rng(seed)
    x = draw.normal(size=(300, 12)).astype(np.float32)
    return x, draw


def test_one_logit_is_the_second_of_two_classes(folder):
    """As scikit-learn's predict_proba; one of the members gives (N,), and one gives probabilities."""
    x, draw = trained()
    y = (x[:, 0] + draw.normal(0, 0.5, 300) > 0).astype(int)
    fitted = [LogisticRegression(C=c).fit(x[:200], y[:200]) for c in (0.1, 10.0)]
    configured(
        folder,
        {
            "a": ("factory: 'tasks:Linear', arguments: {outputs: 1}", linear(fitted[0])),
            "b": ("factory: 'tasks:Linear', arguments: {outputs: 1, squeeze: true}", linear(fitted[1])),
        },
        "task: binary\nclasses: [well, ill]\noutput: {datasets: [prediction, label, members, entropy, top-2]}\n",
    )
    exact = stored(folder, x)
    out = folder.hpcens("plan", "dataset.h5")
    assert "a for one row: logits (1) → sigmoid p, classes [1 − p, p] on axis 1" in out
    assert "b for one row: logits () → sigmoid p" in out
    folder.hpcens("run", "dataset.h5")
    got = result(folder)
    each = [estimator.predict_proba(exact) for estimator in fitted]
    np.testing.assert_allclose(got["members/a"], each[0], **CLOSE)
    np.testing.assert_allclose(got["members/b"], each[1], **CLOSE)
    mean = sum(each) / 2
    np.testing.assert_allclose(got["prediction"], mean, **CLOSE)
    assert (got["label"] == mean.argmax(1)).all()
    np.testing.assert_allclose(got["entropy"], entr(mean).sum(1), **CLOSE)
    out = folder.hpcens("export", "dataset.predictions.h5", "-o", "out.csv")
    assert (folder.folder / "out.csv").read_text().startswith("prediction.well,prediction.ill,label,")


def test_labels_that_do_not_exclude_one_another(folder):
    x, draw = trained(1)
    y = (x[:, :5] + draw.normal(0, 0.5, (300, 5)) > 0).astype(int)
    fitted = [OneVsRestClassifier(LogisticRegression(C=c)).fit(x[:200], y[:200]) for c in (0.1, 10.0)]
    states = [
        {key: torch.cat([linear(e)[key] for e in of.estimators_]) for key in linear(of.estimators_[0])} for of in fitted
    ]
    keys = "factory: 'tasks:Linear', arguments: {outputs: 5}"
    datasets = "[prediction, label, members, entropy, expected_entropy, mutual_information, variance]"
    extra = f"task: multilabel\nclasses: [a, b, c, d, e]\noutput: {{datasets: {datasets}}}\n"
    configured(folder, {"a": (keys, states[0]), "b": (keys, states[1])}, extra)
    exact = stored(folder, x)
    folder.hpcens("run", "dataset.h5")
    got = result(folder)
    each = np.stack([estimator.predict_proba(exact) for estimator in fitted])
    mean = each.mean(0)
    np.testing.assert_allclose(got["prediction"], mean, **CLOSE)
    assert got["label"].shape == (300, 5) and (got["label"] == (mean > 0.5)).all()
    assert 0.2 < got["label"].mean() < 0.8
    entropy, parts = entr(mean) + entr(1 - mean), (entr(each) + entr(1 - each)).mean(0)
    np.testing.assert_allclose(got["entropy"], entropy, **CLOSE)
    np.testing.assert_allclose(got["expected_entropy"], parts, **CLOSE)
    np.testing.assert_allclose(got["mutual_information"], entropy - parts, **CLOSE)
    np.testing.assert_allclose(got["variance"], each.var(0), **CLOSE)
    with h5py.File(folder.output) as file:
        assert [dict(file[name].attrs)["class_axis"] for name in ("prediction", "label", "entropy")] == [1, 1, 1]
    assert "the task is multilabel" in folder.hpcens(
        "combine", "dataset.predictions.h5", "--rule", "vote", "-o", "vote.h5", code=2
    )
    folder.hpcens("combine", "dataset.predictions.h5", "--rule", "max", "-o", "max.h5")
    with h5py.File(folder.folder / "max.h5") as file:
        assert (file["label"][:] == (file["prediction"][:] > 0.5)).all()
        np.testing.assert_allclose(file["prediction"][:], each.max(0), **CLOSE)


def test_several_targets_of_a_regression_stay_values(folder):
    """And without a word on what they are, they are refused before anything starts."""
    x, draw = trained(2)
    y = x[:, :3] * 100 - 5 + draw.normal(size=(300, 3))
    fitted = [Ridge(alpha=a).fit(x[:200], y[:200]) for a in (0.1, 100.0, 10.0)]
    keys = "factory: 'tasks:Linear', arguments: {outputs: 3}"
    members = {f"m{i}": (keys, linear(estimator)) for i, estimator in enumerate(fitted)}
    exact = stored(folder, x)
    configured(folder, members, "rule: median\n")
    refused = folder.hpcens("run", "dataset.h5", code=2)
    assert "member m0 (and so 2 more) gives [3] a row, and the YAML does not say what these are" in refused
    assert "add a line: task: multiclass" in refused and "regression (values as they are)" in refused
    assert not folder.run.exists()
    configured(folder, members, "rule: median\ntask: regression\n")
    folder.hpcens("run", "dataset.h5")
    got = result(folder)
    assert got.keys() == {"prediction"}
    wanted = np.median([estimator.predict(exact) for estimator in fitted], axis=0)
    np.testing.assert_allclose(got["prediction"], wanted, rtol=1e-5, atol=1e-3)


def test_a_segmentation_with_classes_on_axis_1(folder):
    """One of the members has them last: it is brought to the ensemble's axis."""
    names = {}
    exec(NETS, names)
    x = np.random.default_rng(3).normal(size=(60, 1, 12, 10))
    torch.manual_seed(3)
    nets = [names["Segmentation"](), names["Segmentation"](last=True)]
    datasets = "[prediction, label, members, top-2, entropy, disagreement]"
    extra = f"task: multiclass\nclass_axis: 1\nbad_rows: mask\noutput: {{datasets: {datasets}}}\n"
    configured(
        folder,
        {
            "first": ("factory: 'tasks:Segmentation'", nets[0].state_dict()),
            "last": ("factory: 'tasks:Segmentation', arguments: {last: true}, class_axis: 3", nets[1].state_dict()),
        },
        extra,
    )
    exact = torch.from_numpy(stored(folder, x))
    with h5py.File(folder.dataset, "r+") as file:
        file["x"][7, 0, 3, 3] = np.nan
    folder.hpcens("run", "dataset.h5")
    got = result(folder)
    with torch.inference_mode():
        each = np.stack([softmax(net.double().body(exact).numpy(), 1) for net in nets])
    good = np.delete(np.arange(60), 7)
    mean = each.mean(0)
    labels = mean.argmax(1)
    assert got["prediction"].shape == (60, 4, 12, 10) and got["label"].shape == (60, 12, 10)
    for name, wanted in (
        ("prediction", mean),
        ("members/first", each[0]),
        ("members/last", each[1]),
        ("entropy", entr(mean).sum(1)),
        ("disagreement", (each.argmax(2) != labels).mean(0)),
        ("top_values", -np.sort(-mean, 1)[:, :2]),
    ):
        np.testing.assert_allclose(got[name][good], wanted[good], **CLOSE)
        assert np.isnan(got[name][7]).all()
    assert (got["label"][good] == labels[good]).all() and (got["label"][7] == -1).all()
    assert (got["top_labels"][:, 0][good] == labels[good]).all()
    assert np.flatnonzero(got["valid"] == 0).tolist() == [7]
    with h5py.File(folder.output) as file:
        assert file["prediction"].attrs["class_axis"] == 1 and file["prediction"].dims[1].label == "class"
        assert "class_axis" not in file["label"].attrs and file["prediction"].attrs["sums_to_one"]
    assert "sound" in folder.hpcens("verify", "dataset.predictions.h5")
    folder.hpcens("combine", "dataset.predictions.h5", "--rule", "vote", "-o", "vote.h5")
    with h5py.File(folder.folder / "vote.h5") as file:
        votes = np.eye(4)[each.argmax(2)].mean(0)  # (60, 12, 10, 4)
        np.testing.assert_allclose(file["prediction"][:][good], np.moveaxis(votes, -1, 1)[good], **CLOSE)


def test_missing_values_are_a_networks_own_to_handle(folder):
    """NaN goes through, and the same command without it is another run."""
    x, _ = trained(4)
    y = (x[:, 0] > 0).astype(int)
    state = linear(LogisticRegression().fit(x, y))
    keys = "factory: 'tasks:Linear', arguments: {outputs: 1}"
    x[[3, 250], 5] = np.nan
    exact = np.nan_to_num(stored(folder, x))
    extra = "task: binary\nbad_rows: mask\noutput: {datasets: [prediction]}\n"
    configured(folder, {"a": (f"{keys}, bad_rows: pass", state)}, extra)
    folder.hpcens("run", "dataset.h5")
    got = result(folder)
    assert got["valid"].all()
    p = 1 / (1 + np.exp(-(exact @ state["layer.weight"].double().numpy().T + state["layer.bias"].double().numpy())))
    np.testing.assert_allclose(got["prediction"], np.concatenate([1 - p, p], 1), **CLOSE)
    configured(folder, {"a": (keys, state)}, extra)
    assert "members.a.bad_rows: pass then, absent now" in folder.hpcens("run", "dataset.h5", code=78)
