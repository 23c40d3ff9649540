"""The example of passes: its result is judged against labels, combined again, and grown; kills change no byte of it."""

import json
import shutil
import sys

import h5py
import numpy as np
import pytest
import torch
from scipy.special import entr
from sklearn import metrics
from support.one_process import run
from support.project import ROOT

import hpcens
from hpcens.cli import main

ROWS = 42
NETS = """
import torch
class Dropping(torch.nn.Module):
    def __init__(self, width):
        super().__init__()
        layers = [torch.nn.Linear(8, width), torch.nn.ReLU(), torch.nn.Dropout(0.4), torch.nn.Linear(width, 3)]
        self.layers = torch.nn.Sequential(*layers)

    def forward(self, x):
        return self.layers(x)
"""


@pytest.fixture
def scored(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    torch.set_num_threads(1)
    (tmp_path / "nets.py").write_text(NETS)
    names = {}
    exec(NETS, names)
    random = np.random.default_rng(0)
    with h5py.File("scans.h5", "w") as file:
        file["scans"] = random.normal(0, 2, (ROWS, 8)).astype("f4")
        file["diagnosis"] = np.array(["healthy", "mild", "severe"], object)[random.integers(0, 3, ROWS)]
    for seed, name in enumerate(("first", "second")):
        torch.manual_seed(seed)
        torch.save(names["Dropping"](32).state_dict(), f"{name}.pt")
    shutil.copy(ROOT / "configs" / "passes.yaml", tmp_path)
    assert run(tmp_path / "passes.yaml", tmp_path / "scans.h5", tmp_path / "scans.predictions.h5")
    yield tmp_path / "scans.predictions.h5"
    sys.modules.pop("nets", None)


def test_the_example_is_judged_and_its_uncertainty_is_that_of_all_passes(scored, capsys):
    with h5py.File(scored) as file:
        stored = {name: file[name][()].astype(np.float64) for name in file.attrs["outputs"]}
        diagnosis = file["columns/diagnosis"].asstr()[:]
        members = json.loads(file.attrs["members"])
    assert members["second"]["passes"] == '{"count": 20, "seed": 1}'
    mean = (stored["members/first"] + stored["members/second"]) / 2
    expected = (stored["pass_entropy/first"] + stored["pass_entropy/second"]) / 2
    between = entr(mean).sum(1) - (entr(stored["members/first"]) + entr(stored["members/second"])).sum(1) / 2
    assert np.abs(stored["entropy"] - entr(mean).sum(1)).max() < 1e-6
    assert np.abs(stored["expected_entropy"] - expected).max() < 1e-6
    assert np.abs(stored["mutual_information"] - (stored["entropy"] - expected)).max() < 1e-6
    assert (
        stored["mutual_information"] > between + 0.01
    ).mean() > 0.9  # what passes of one member differ by counts too
    assert main(["evaluate", str(scored), "--labels-column", "diagnosis", "-o", "e.json"]) == 0
    capsys.readouterr()
    figures = json.loads(scored.with_name("e.json").read_text())
    labels = np.array(["healthy", "mild", "severe"])[stored["members/first"].argmax(1)]
    assert figures["members"]["first"]["accuracy"]["value"] == metrics.accuracy_score(diagnosis, labels)


def test_another_rule_takes_the_same_entropies_and_results_are_opened(scored):
    with hpcens.open(scored) as result, hpcens.combine(scored, scored.with_name("m.h5"), rule="median") as median:
        for name in ("entropy", "expected_entropy", "pass_entropy/first", "members/second"):
            assert np.asarray(result[name]).tobytes() == np.asarray(median[name]).tobytes(), name
        assert set(result.members) == {"first", "second"}
        assert "mean entropy of the 20 passes" in result["pass_entropy/first"].description
