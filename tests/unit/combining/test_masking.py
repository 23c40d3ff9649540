"""Rows that cannot be scored: they end the run with their names, or are masked, counted, and spoil no other."""

import json
import shutil

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcens.combining.masking import mask, masked_rows, neutral, valid
from hpcens.errors import DataError
from hpcens.result.journal import Content, Header, Kind, Record
from hpcens.result.outputs import Output
from hpcens.vocabulary import Bad

PICKY = """
from nets_plain import *

def picky(x):
    if (x[:, 0, 0, 0] == 2).any():
        raise ValueError("two is not for me")
    return x
"""


@given(st.lists(st.integers(0, 9), max_size=6), st.lists(st.integers(0, 9), max_size=6))
def test_every_row_that_some_member_could_not_score_is_masked_once(first, second):
    bad = {"a": [Bad("input", tuple(first))], "b": [Bad("output", tuple(second)), Bad("raised", (3,))]}
    assert masked_rows("mask", 100, bad) == sorted({*first, *second, 3})


def test_failing_names_the_member_and_the_rows_of_the_dataset():
    with pytest.raises(DataError, match="member b gave NaN or infinity for 7 rows, first 102, 103, 104, 105, 106") as e:
        masked_rows("fail", 100, {"a": [], "b": [Bad("output", tuple(range(2, 9)))]})
    assert "bad_rows: mask" in e.value.remedy
    assert masked_rows("fail", 100, {"a": [], "b": []}) == []


@given(st.sets(st.integers(0, 5)), st.sampled_from(["<f4", "<f2", "<i4", "|u1"]))
def test_masked_rows_are_blank_and_the_others_untouched(rows, dtype):
    masked = sorted(rows)
    values = np.arange(1, 25).reshape(6, 4).astype(dtype)
    got = mask(values, Output("x", (4,), dtype), masked)
    blank = {"f": np.nan, "i": -1, "u": 0}[np.dtype(dtype).kind]
    kept = sorted(set(range(6)) - rows)
    assert got.dtype == values.dtype
    assert (got[kept] == values[kept]).all()
    assert np.array_equal(got[masked], np.full((len(masked), 4), blank, dtype), equal_nan=got.dtype.kind == "f")
    assert valid(6, masked).tolist() == [0 if row in rows else 1 for row in range(6)]


def test_a_rule_is_given_numbers_for_what_is_masked():
    stack = [np.full((3, 4), np.nan, np.float32), np.ones((3, 4), np.float32)]
    assert (neutral(stack, [0, 2])[0][[0, 2]] == 0.25).all()
    assert np.isnan(stack[0]).all(), "what was sent was changed"


def test_what_is_noted_of_a_segment_is_what_was_written_last():
    def of(*records):
        return Content(Header(1, "", "w", 2), tuple(records), 0).notes()

    first, again = Record(Kind.MASKED_OUTPUT, 1, 7, 0, 2), Record(Kind.MASKED_OUTPUT, 1, 8, 0, 1)
    written, revoked = Record(Kind.WRITTEN, 1), Record(Kind.REVOKED, 1)
    assert of(first, written) == [first]
    assert of(first, written, revoked) == []
    assert of(first, written, revoked, again, written) == [again]
    assert of(first) == []


@pytest.fixture
def spoiled(project):
    """NaN in row 17, infinity in 40 and 41, and a row that one member's preprocessing refuses; and all of it clean."""
    clean = project.folder / "clean.h5"
    shutil.copy(project.dataset, clean)
    with h5py.File(project.dataset, "r+") as file:
        file["images"][17, 0, 3, 3] = np.nan
        file["images"][40:42, 1, 0, 0] = np.inf
        file["images"][100, 0, 0, 0] = 2
    (project.folder / "nets_plain.py").write_text((project.folder / "nets.py").read_text())
    (project.folder / "nets.py").write_text(PICKY)
    text = (project.folder / "hpcens.yaml").read_text()
    project.text = text.replace("factory: nets:Conv", "factory: nets:Conv\n    preprocess: [{call: nets:picky}]")
    return project


@pytest.mark.mpi
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


@pytest.mark.mpi
def test_a_row_that_raises_ends_the_run_unless_it_is_to_be_masked(spoiled):
    (spoiled.folder / "hpcens.yaml").write_text(spoiled.text)
    with h5py.File(spoiled.dataset, "r+") as file:
        file["images"][17:42] = 0
    assert "member conv: preprocess" in spoiled.hpcens("run", "dataset.h5", code=1)
    assert not spoiled.output.exists()
