"""The example of routes: five networks score five folds, and the ensemble is held against its labels."""

import json

import h5py
import numpy as np
import pytest
import torch
from sklearn import metrics
from support.one_process import run
from support.project import ROOT

from hpcens.cli import main

ROWS, FOLDS = 120, 5


@pytest.mark.filterwarnings("ignore:.*torch.jit")
def test_the_example_is_scored_out_of_fold_and_judged(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    torch.set_num_threads(1)
    random = np.random.default_rng(0)
    diagnosis, fold = random.integers(0, 3, ROWS), random.integers(0, FOLDS, ROWS)
    scans = random.normal(0, 1, (ROWS, 8)).astype("f4")
    with h5py.File("scans.h5", "w") as file:
        file["scans"], file["split/fold"] = scans, fold
        file["diagnosis"] = np.array(["healthy", "mild", "severe"], object)[diagnosis]
    expected = np.empty(ROWS, np.int64)
    for number in range(FOLDS):
        torch.manual_seed(number)
        layer = torch.nn.Linear(8, 3).eval()
        torch.jit.save(torch.jit.trace(layer, torch.zeros(2, 8)), f"fold-{number}.pt")
        with torch.no_grad():
            expected[fold == number] = layer(torch.from_numpy(scans[fold == number])).argmax(1)
    (tmp_path / "folds.yaml").write_text((ROOT / "configs" / "folds.yaml").read_text())
    assert run(tmp_path / "folds.yaml", tmp_path / "scans.h5", tmp_path / "scans.predictions.h5")
    with h5py.File("scans.predictions.h5") as file:
        assert (file["label"][:] == expected).all()
        assert (file["present"][:].argmax(1) == fold).all() and (file["present"][:].sum(1) == 1).all()
    arguments = ["evaluate", "scans.predictions.h5", "--labels-column", "diagnosis"]
    assert main([*arguments, "-o", "e.json"]) == 0
    assert "compared with no other" in capsys.readouterr().out
    figures = json.loads((tmp_path / "e.json").read_text())
    assert figures["ensemble"]["accuracy"]["value"] == metrics.accuracy_score(diagnosis, expected)
    for number in range(FOLDS):
        of_fold = fold == number
        accuracy = metrics.accuracy_score(diagnosis[of_fold], expected[of_fold])
        assert figures["members"][f"fold-{number}"]["accuracy"]["value"] == pytest.approx(accuracy)
