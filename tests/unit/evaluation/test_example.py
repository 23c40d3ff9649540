"""The example of what is to be judged: scored by its networks, held against its labels, by column and by file."""

import json

import h5py
import numpy as np
import pytest
import torch
from sklearn import metrics
from support.one_process import run
from support.project import ROOT

import hpcens
from hpcens.cli import main

ROWS = 300


def prepare(folder):
    """Scans of which half are held out, of 30 patients; one held-out row cannot be scored; three networks."""
    torch.set_num_threads(1)
    random = np.random.default_rng(0)
    patient = np.arange(ROWS) % 30
    diagnosis = random.integers(0, 3, ROWS)
    scans = random.normal(0, 1, (ROWS, 8)).astype("f4")
    scans[:, :3] += 1.5 * np.eye(3)[diagnosis]
    held_out = np.arange(ROWS) % 2 == 1
    scans[101, 0] = np.nan
    with h5py.File(folder / "scans.h5", "w") as file:
        file["scans"], file["held_out"], file["patient"] = scans, held_out, patient
        file["diagnosis"] = np.array(["healthy", "mild", "severe"], object)[diagnosis]
    for number, name in enumerate(("wide", "deep", "plain")):
        torch.manual_seed(number)
        layer = torch.nn.Linear(8, 3)
        with torch.no_grad():
            layer.weight[:, :3] += 1.5 * torch.eye(3)
        torch.jit.save(torch.jit.trace(layer.eval(), torch.zeros(2, 8)), folder / f"{name}.pt")
    for example in ("judged.yaml", "calibrated.yaml"):
        (folder / example).write_text((ROOT / "configs" / example).read_text())
    return diagnosis, held_out


@pytest.mark.filterwarnings("ignore:.*torch.jit")
def test_it_is_scored_and_judged(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    diagnosis, held_out = prepare(tmp_path)
    assert run(tmp_path / "judged.yaml", tmp_path / "scans.h5", tmp_path / "scans.predictions.h5")
    arguments = ["--labels-column", "diagnosis", "--groups", "patient", "-o", "e.json", "--html", "e.html"]
    assert main(["evaluate", "scans.predictions.h5", *arguments]) == 0
    printed = capsys.readouterr().out
    assert "149 of 150 rows against labels columns/diagnosis, 1 masked" in printed and "drop deep:" in printed
    assert "intervals rest on 15 groups alone" in printed
    figures = json.loads((tmp_path / "e.json").read_text())
    kept = np.flatnonzero(held_out) != 101
    with h5py.File("scans.predictions.h5") as file:
        label = file["label"][:][kept]
        members = {name: file[f"members/{name}"][:][kept] for name in file["members"]}
    true = diagnosis[held_out][kept]
    assert figures["ensemble"]["accuracy"]["value"] == metrics.accuracy_score(true, label)
    for name, values in members.items():
        assert figures["members"][name]["accuracy"]["value"] == metrics.accuracy_score(true, values.argmax(1))
    by_file = hpcens.evaluate("scans.predictions.h5", ":/diagnosis", groups="patient")
    assert by_file.labels.digest == figures["labels"]["digest"] and by_file.labels.follow
    named = hpcens.evaluate("scans.predictions.h5", "scans.h5:/diagnosis", groups="patient")
    assert named.ensemble == by_file.ensemble
    assert main(["evaluate", "scans.predictions.h5", "--labels", "scans.h5:/scans"]) == 65
    refusal = capsys.readouterr().err
    assert "labels " in refusal and "are [8] a row, and predictions need" in refusal and len(refusal.splitlines()) == 2
    arguments = ["calibrate", "scans.predictions.h5", "--labels-column", "diagnosis", "--groups", "patient"]
    assert main([*arguments, "--coverage", "0.8", "-o", "calibration.json"]) == 0
    assert "set_coverage: promised 80 %" in capsys.readouterr().out
    assert run(tmp_path / "calibrated.yaml", tmp_path / "scans.h5", tmp_path / "all.h5")
    with hpcens.open("all.h5") as result:
        calibration = result.config.calibration
        raw = np.log(sum(values.astype(float) for values in members.values()) / 3)
        kept = np.flatnonzero(held_out)[kept]
        expected = np.exp(raw / calibration.temperature)
        expected /= expected.sum(1, keepdims=True)
        assert result["prediction"][:][kept] == pytest.approx(expected, abs=1e-6)
        certain = np.abs(1 - expected - calibration.thresholds[0]) > 1e-6
        assert ((result["set"][:][kept] == 1) == (1 - expected <= calibration.thresholds[0]))[certain].all()
        assert not result["set"][101].any() and "members/wide" not in result.names
    judged = hpcens.evaluate("all.h5", ":/diagnosis", ensemble_only=True)
    assert 0.6 < judged.ensemble["set_coverage"].value < 0.95 and judged.rows.masked == 1
