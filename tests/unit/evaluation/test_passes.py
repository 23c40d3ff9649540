"""The example of passes: its result is judged against labels, combined again, and grown; kills change no byte of it."""

import json
import re
import shutil
import sys
from contextlib import closing

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
from hpcens.combining import require_same_members
from hpcens.config import load
from hpcens.errors import FingerprintMismatch
from hpcens.reports import ending
from hpcens.result.finished import Finished, fingerprint_of

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
    monkeypatch.delitem(sys.modules, "nets", raising=False)  # another test's
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
        passes = json.loads(file.attrs["passes"])
    assert members["second"]["passes"] == '{"count": 20, "seed": 1}'
    assert passes == {"first": {"count": 20, "seed": 0}, "second": {"count": 20, "seed": 1}}
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


def test_other_passes_are_other_members_and_the_key_is_named(scored):
    """Of networks that are gone too: it needs none of their files to know."""
    text = (ROOT / "configs" / "passes.yaml").read_text()
    config, dataset = scored.with_name("passes.yaml"), scored.with_name("scans.h5")
    config.write_text(text.replace("passes: 20", "passes: 10"))
    with pytest.raises(FingerprintMismatch, match=r'members\.first\.passes: {"count": 20, "seed": 0} then, .* now'):
        run(config, dataset, scored)
    config.write_text(text.replace(", passes: 20}", "}"))
    with pytest.raises(FingerprintMismatch, match=r"members\.first\.passes: .* then, absent now") as caught:
        run(config, dataset, scored)
    assert caught.value.exit_code == 78
    for name in ("first", "second"):
        scored.with_name(f"{name}.pt").unlink()
    with closing(Finished(scored)) as source:
        with pytest.raises(FingerprintMismatch, match=r"members\.first\.passes"):
            require_same_members(source, load(config))
        config.write_text(text)
        require_same_members(source, load(config))


def test_a_result_of_single_runs_is_not_continued_in_passes(scored):
    """What the earlier code made has no passes: the line says what restores that."""
    text = (ROOT / "configs" / "passes.yaml").read_text()
    config, dataset, output = (scored.with_name(name) for name in ("passes.yaml", "scans.h5", "single.h5"))
    config.write_text(re.sub(", passes: ({.*?}|20)", "", text))
    run(config, dataset, output)
    tree = fingerprint_of(output)
    assert "format" not in tree and "passes" not in h5py.File(output).attrs
    config.write_text(text)
    with pytest.raises(FingerprintMismatch, match=r"members\.first\.passes: absent then") as caught:
        run(config, dataset, output)
    assert "no members[].passes" in f"{caught.value} {caught.value.remedy}"


def test_a_run_says_which_members_are_means_of_passes(scored):
    assert [*ending._result_lines(scored)][-1] == "passes: 20 a row of first, second"
