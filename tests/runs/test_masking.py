"""Whole runs over rows that cannot be scored: masked, counted, and spoiling no other."""

import json
import shutil

import h5py
import numpy as np
import pytest

PICKY = """
def picky(x):
    if (x[:, 0, 0, 0] == 2).any():
        raise ValueError("two is not for me")
    return x
"""


@pytest.fixture
def spoiled(project):
    """NaN in row 17, infinity in 40 and 41, and a row that one member's preprocessing refuses; and all of it clean."""
    clean = project.folder / "clean.h5"
    shutil.copy(project.dataset, clean)
    with h5py.File(project.dataset, "r+") as file:
        file["images"][17, 0, 3, 3] = np.nan
        file["images"][40:42, 1, 0, 0] = np.inf
        file["images"][100, 0, 0, 0] = 2
    (project.folder / "picky.py").write_text(PICKY)  # beside nets.py, so that profiles of the others are kept ones
    text = (project.folder / "hpcens.yaml").read_text()
    project.text = text.replace("factory: nets:Conv", "factory: nets:Conv\n    preprocess: [{call: picky:picky}]")
    return project


def test_masked_rows_are_told_and_spoil_no_other(spoiled):
    extra = "bad_rows: mask\noutput: {datasets: [prediction, label, members]}\n"
    (spoiled.folder / "hpcens.yaml").write_text(spoiled.text + extra)
    said = spoiled.hpcens("run", "dataset.h5")
    assert "3 by input of linear, first row 17" in said
    assert "1 by raised of conv, first row 100" in said
    assert "by output of conv" in said, "conv has a function of its own before it, and is judged by what it gives"
    spoiled.hpcens("run", "clean.h5")
    bad = [17, 40, 41, 100]
    good = sorted(set(range(300)) - set(bad))
    with h5py.File(spoiled.output) as file, h5py.File(spoiled.folder / "clean.predictions.h5") as clean:
        assert np.flatnonzero(file["valid"][:] == 0).tolist() == bad
        for name in ("prediction", "members/conv", "members/linear", "members/recurrent"):
            assert np.isnan(file[name][:][bad]).all()
            assert file[name][:][good].tobytes() == clean[name][:][good].tobytes()
        assert (file["label"][:][bad] == -1).all()
        assert json.loads(bytes(file["hpcens/summary"][:]))["masked"][0]["member"] == "linear"
    assert "sound" in spoiled.hpcens("verify", "dataset.predictions.h5")
    out = spoiled.hpcens("combine", "dataset.predictions.h5", "--rule", "median", "-o", "median.h5")
    assert "300 rows combined" in out
    with h5py.File(spoiled.folder / "median.h5") as file:
        assert np.flatnonzero(file["valid"][:] == 0).tolist() == bad
        assert np.isnan(file["prediction"][:][bad]).all() and np.isfinite(file["prediction"][:][good]).all()


def test_a_row_that_raises_ends_the_run_unless_it_is_to_be_masked(spoiled):
    (spoiled.folder / "hpcens.yaml").write_text(spoiled.text)
    with h5py.File(spoiled.dataset, "r+") as file:
        file["images"][17:42] = 0
    assert "member conv: preprocess" in spoiled.hpcens("run", "dataset.h5", code=1)
    assert not spoiled.output.exists()
