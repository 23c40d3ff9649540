"""The example of a cascade, scored and held against its labels: what each stage is worth, and what it costs."""

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from support.one_process import run
from support.project import ROOT

from hpcens.cli import main

ROWS = 400


@pytest.fixture
def scored(tmp_path, monkeypatch):
    """Networks of growing skill on scans of which half are hard; the folder holds the result of the example."""
    monkeypatch.chdir(tmp_path)
    torch.set_num_threads(1)
    random = np.random.default_rng(0)
    diagnosis = random.integers(0, 3, ROWS)
    scans = 3 * np.eye(8)[diagnosis] + random.normal(
        0, np.where(random.random(ROWS) < 0.5, 0.3, 1.5)[:, None], (ROWS, 8)
    )
    with h5py.File("scans.h5", "w") as file:
        file["scans"], file["patient"] = scans.astype("f4"), np.arange(ROWS)
        file["diagnosis"] = np.array(["healthy", "mild", "severe"], object)[diagnosis]
    for seed, (name, noise) in enumerate({"small": 0.6, "wide": 0.3, "deep": 0.3, "slow": 0.0}.items()):
        torch.manual_seed(seed)
        layer = torch.nn.Linear(8, 3).eval()
        with torch.no_grad():
            layer.weight.copy_(2 * torch.eye(3, 8) + noise * torch.randn(3, 8))
            layer.bias.zero_()
        torch.jit.save(torch.jit.trace(layer, torch.zeros(2, 8)), f"{name}.pt")
    text = (ROOT / "configs" / "cascade.yaml").read_text().replace("[patient]", "[patient, diagnosis]")
    (tmp_path / "cascade.yaml").write_text(text)
    assert run(tmp_path / "cascade.yaml", tmp_path / "scans.h5", tmp_path / "scans.predictions.h5")
    with h5py.File("scans.predictions.h5") as file:
        return {name: file[name][:] for name in file.attrs["outputs"]} | {"diagnosis": diagnosis}


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_the_example_is_judged_stage_by_stage(scored, capsys):
    assert main(["evaluate", "scans.predictions.h5", "--labels-column", "diagnosis", "-o", "e.json"]) == 0
    said = capsys.readouterr().out
    stages = json.loads(Path("e.json").read_text())["stages"]
    present, labels, right = scored["present"], scored["label"], scored["label"] == scored["diagnosis"]
    last = present @ np.array([0, 1, 0, 1])  # the stage in which a row ends
    members = [scored[f"members/{name}"].astype(np.float64) for name in ("small", "wide", "deep", "slow")]
    so_far = [labels, labels, labels]
    for stage, count in enumerate((1, 3)):
        mean = np.mean(members[:count], 0)
        so_far[stage] = np.where(last > stage, mean.argmax(1), labels)
    assert [stage["members"] for stage in stages] == [["small"], ["wide", "deep"], ["slow"]]
    for number, stage in enumerate(stages):
        assert stage["came"] == (last >= number).sum() and stage["accepted"] == (last == number).sum() > 0
        assert stage["quality"] == pytest.approx(right[last == number].mean())
        assert stage["ended"] == pytest.approx((so_far[number] == scored["diagnosis"]).mean())
    assert f"stage 2 (wide, deep): {(last >= 1).sum()} rows came" in said
    assert stages[2]["limits"] == [] and stages[1]["limits"] == []  # which accepts by two things
    sure = members[0].max(1)
    for limit in stages[0]["limits"]:
        assert limit["word"] == "max_probability" and limit["side"] == "above"
        besides = (last > 0) & (sure > limit["limit"])
        assert limit["left"] == pytest.approx(((last > 0) & ~besides).mean(), abs=0.01)
        labels_then = np.where(besides, so_far[0], labels)
        assert limit["quality"] == pytest.approx((labels_then == scored["diagnosis"]).mean(), abs=0.01)
    assert stages[0]["limits"][-1]["left"] == 0
    assert "stage 1, max_probability above " in said


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_it_is_calibrated_and_members_are_not_selected(scored, capsys):
    arguments = ["scans.predictions.h5", "--labels-column", "diagnosis"]
    assert main(["select", *arguments, "-o", "selected.yaml"]) == 2
    assert "scored rows of their own" in capsys.readouterr().err
    assert main(["calibrate", *arguments, "-o", "calibration.json"]) == 0
    fitted = json.loads(Path("calibration.json").read_text())
    assert "[small] accepts max_probability above 0.95" in fitted["made_of"]["rule"]["cascade"]
