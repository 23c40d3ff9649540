"""Columns are covered by what a complete run promises: damage is found before the result has its name, and healed."""

from dataclasses import replace

import h5py
import numpy as np
import pytest
from support.results import EXPECTED, GZIP, ROWS, begin, content, directory, form, values

from hpcens.errors import INCOMPLETE, Incomplete
from hpcens.result.disk import Disk
from hpcens.result.result import Result
from hpcens.result.verify import look_through
from hpcens.vocabulary import Segmentation

IDS = np.arange(100, 100 + ROWS)
NAMES = [f"row {i}" for i in range(ROWS)]
SEGMENTATION = Segmentation(ROWS, 4)


def write_columns(file):
    file["columns/ids"] = IDS
    file.create_dataset("columns/meta/names", data=NAMES, dtype=h5py.string_dtype(length=8))


def opened(run, folder, compression=None):
    return Result.open(run, begin(run), replace(form(folder, compression), columns=write_columns), Disk())


def score(result, segments):
    data = np.arange(ROWS, dtype="f4")
    for segment in segments:
        rows = data[slice(*SEGMENTATION.bounds(segment))]
        stack = [np.stack([rows, -rows], 1), np.stack([rows, -rows], 1) + 1]
        result.write(segment, values(stack), {})
        result.flush([segment])


def flip(path, name):
    """Another bit in the values of a column, as a disk may make of it."""
    with h5py.File(path, "r") as file:
        place = file[name].id.get_offset() + 9
    with path.open("rb+") as raw:
        raw.seek(place)
        byte = raw.read(1)[0]
        raw.seek(place)
        raw.write(bytes([byte ^ 4]))


@pytest.mark.parametrize("name", ["columns/ids", "columns/meta/names"])
@pytest.mark.parametrize("compression", [None, GZIP])
def test_damage_between_a_drain_and_its_resume_is_healed(tmp_path, name, compression):
    run = directory(tmp_path)
    first = opened(run, tmp_path, compression)
    score(first, [0, 1, 2])
    first.close()
    flip(run.path / "working-0001.h5", name)
    second = opened(run, tmp_path, compression)
    assert second.missing == [3, 4, 5], "what was durable is kept"
    score(second, second.missing)
    second.finish(tmp_path / "out.h5", {})
    second.close()
    check(tmp_path, run)


@pytest.mark.parametrize("compression", [None, GZIP])
def test_damage_while_a_start_scores_ends_it_resumable(tmp_path, compression):
    run = directory(tmp_path)
    first = opened(run, tmp_path, compression)
    score(first, first.missing)
    flip(run.path / "working-0001.h5", "columns/ids")
    with pytest.raises(Incomplete, match=r"columns/ids of .* is not what was written") as caught:
        first.finish(tmp_path / "out.h5", {})
    assert caught.value.exit_code == INCOMPLETE and not (tmp_path / "out.h5").exists()
    first.close()
    second = opened(run, tmp_path, compression)
    assert second.missing == [], "no row is scored again"
    second.finish(tmp_path / "out.h5", {})
    second.close()
    check(tmp_path, run)


def check(folder, run):
    assert content(folder / "out.h5") == EXPECTED
    assert look_through(folder / "out.h5").faults == []
    assert list(run.path.glob("working-*")) == []
    with h5py.File(folder / "out.h5") as file:
        assert (file["columns/ids"][:] == IDS).all()
        assert file["columns/meta/names"].asstr()[:].tolist() == NAMES
