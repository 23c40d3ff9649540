"""Results that keep few rows: the same bytes for any order, number of writers and kills."""

import dataclasses
import errno
import json
from contextlib import closing
from unittest.mock import patch

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import results
from support.lossy import LossyDisk, RefusingDisk
from support.results import GZIP, ROWS, SEGMENT, WHOLE, begin, directory, flip, form, score, values

from hpcens.errors import Incomplete, as_verdict
from hpcens.reports.values import sample, value_lines
from hpcens.result.candidates import Candidates
from hpcens.result.disk import Disk
from hpcens.result.finished import Finished
from hpcens.result.keeping import Keeping
from hpcens.result.result import Result
from hpcens.result.verify import look_through
from hpcens.vocabulary import Segmentation

TOP = Keeping(5, None, "prediction", 0)
FIRST = Keeping(5, None, "prediction", 1)
ABOVE = Keeping(None, 30.0, "prediction", 0)
NONE = Keeping(None, 1e9, "prediction", 0)


def expected(keeping):
    found = WHOLE["prediction"][:, keeping.place].astype(float)
    order = np.lexsort((np.arange(ROWS), -found))
    return order[: keeping.top] if keeping.top else [row for row in order if found[row] > keeping.above]


@pytest.fixture
def keeps(monkeypatch):
    """Have results of `support.results` keep rows."""

    def choose(keeping):
        def kept(folder, compression=None):
            made = form(folder, compression)
            attributes = {**made.attributes, "keep": json.dumps({"of": ROWS})}
            return dataclasses.replace(made, attributes=attributes, keep=keeping)

        monkeypatch.setattr(results, "form", kept)
        return kept

    return choose


def check(path, keeping):
    rows = expected(keeping)
    with h5py.File(path) as file:
        assert file["row_number"][:].tolist() == list(rows)
        assert file["prediction"][:].tobytes() == WHOLE["prediction"][rows].tobytes()
        assert file["label"][:].tobytes() == WHOLE["label"][rows].tobytes()
    assert look_through(path).faults == []


@pytest.mark.parametrize("compression", [None, GZIP])
@pytest.mark.parametrize("keeping", [TOP, FIRST, ABOVE, NONE], ids=["top", "first", "above", "none"])
def test_the_best_rows_are_kept_best_first(keeps, tmp_path, keeping, compression):
    keeps(keeping)
    run = directory(tmp_path)
    score(run, tmp_path, Disk(), compression)
    check(tmp_path / "out.h5", keeping)
    with closing(Finished(tmp_path / "out.h5")) as result:
        shown = sample(result)
        assert shown.rows == shown.read == len(expected(keeping))
        assert bool([*value_lines(shown)]) == bool(len(expected(keeping)))
    assert not [*run.path.glob("working-*"), *run.path.glob("packed-*")]


@pytest.mark.parametrize("keeping", [TOP, FIRST])
def test_a_crash_at_any_call_changes_nothing(keeps, tmp_path, keeping):
    """And what was reported durable is there: the next start does not score it again."""
    kept = keeps(keeping)
    reported = 0
    (tmp_path / "whole").mkdir()
    disk = LossyDisk()
    score(directory(tmp_path / "whole"), tmp_path / "whole", disk)
    check(tmp_path / "whole" / "out.h5", keeping)
    assert disk.calls > 40
    for k in range(disk.calls):
        folder = tmp_path / str(k)
        folder.mkdir()
        run = directory(folder)
        told = score(run, folder, LossyDisk(dies_at=k, seed=k))
        if not (folder / "out.h5").exists():
            assert not {*told} & {*Result.open(run, begin(run), kept(folder)).missing}
            reported += bool(told)
        score(run, folder, LossyDisk(dies_at=disk.calls - k, seed=k))
        score(run, folder, Disk())
        check(folder / "out.h5", keeping)
    assert reported > 10


@settings(max_examples=25, deadline=None)
@given(
    order=st.permutations(range(-(-ROWS // SEGMENT))),
    writers=st.integers(1, 3),
    stop=st.integers(0, 6),
    draws=st.lists(st.integers(0, 3), min_size=ROWS, max_size=ROWS),
    top=st.integers(1, 9),
    many=st.sampled_from([1, 1 << 20]),
)
def test_any_order_number_of_writers_and_restart_keeps_the_same(
    tmp_path_factory, order, writers, stop, draws, top, many
):
    folder = tmp_path_factory.mktemp("kept")
    whole = values([np.stack([np.array(draws, "f4")] * 2, 1)] * 2)
    keeping = Keeping(top, None, "prediction", 0)
    made = form(folder)
    made = dataclasses.replace(made, attributes={**made.attributes, "keep": json.dumps({"of": ROWS})}, keep=keeping)
    run = directory(folder)
    for count, most in ((writers, stop), (4 - writers, None)):
        epoch = begin(run)
        first = Result.open(run, epoch, made, writers=count)
        every = [first, *(Result.join(run, epoch, made, writer=n, writers=count) for n in range(1, count))]
        for segment in order[:most]:
            writer = every[segment % count]
            if segment in writer.missing:
                rows = slice(*Segmentation(ROWS, SEGMENT).bounds(segment))
                writer.write(segment, {name: of[rows] for name, of in whole.items()}, {})
                writer.flush([segment])
        assert [writer.revoke_damaged() for writer in every] == [[]] * count
        for writer in every[1:]:
            writer.close()
        if most is None:
            with patch("hpcens.result.candidates._MANY", many):
                first.finish(folder / "out.h5", {})
        first.close()
    chosen = np.lexsort((np.arange(ROWS), -whole["prediction"][:, 0].astype(float)))[:top]
    with h5py.File(folder / "out.h5") as file:
        assert file["row_number"][:].tolist() == chosen.tolist()
        assert file["prediction"][:].tobytes() == whole["prediction"][chosen].tobytes()


def test_few_candidates_wait_on_the_disk(keeps, tmp_path, monkeypatch):
    """Rows that cannot be among the best any more are not written."""
    written = []
    monkeypatch.setattr(
        "hpcens.result.candidates.Candidates._append",
        lambda self, segment, data, was=Candidates._append: (written.append(len(data)), was(self, segment, data))[1],
    )
    made = keeps(FIRST)(tmp_path)
    run = directory(tmp_path)
    for start in range(2):  # the second learns from what it takes over, each writer of it
        epoch = begin(run)
        writers = [Result.open(run, epoch, made, writers=2), Result.join(run, epoch, made, writer=1, writers=2)]
        for segment in (0, 1, 2, 3) if start == 0 else (4, 5):
            rows = slice(*Segmentation(ROWS, SEGMENT).bounds(segment))
            written.clear()
            writers[segment % 2].write(segment, {name: of[rows] for name, of in WHOLE.items()}, {})
            writers[segment % 2].flush([segment])
            assert sum(written) // (8 + 8 + 8 + 4) == {0: 4, 1: 4, 2: 1}.get(segment, 0 if start else 1)


def test_masked_rows_are_not_kept_though_they_are_stored_as_zero():
    stored = {"prediction": np.array([[3], [0], [0]], np.uint8), "valid": np.array([1, 0, 1], np.uint8)}
    keeping = Keeping(3, None, "prediction", 0)
    values = keeping.values(stored)
    assert keeping.candidates(values, 10, np.zeros(0), np.zeros(0, int)).tolist() == [0, 2]
    assert Keeping(None, -1.0, "prediction", 0).candidates(values, 10, np.zeros(0), np.zeros(0, int)).tolist() == [0, 2]


def test_damaged_candidates_are_scored_again(keeps, tmp_path):
    made = keeps(TOP)(tmp_path)
    run = directory(tmp_path)

    def write(result, segments):
        for segment in segments:
            rows = slice(*Segmentation(ROWS, SEGMENT).bounds(segment))
            result.write(segment, {name: of[rows] for name, of in WHOLE.items()}, {})
            result.flush([segment])

    result = Result.open(run, begin(run), made)
    write(result, range(3))
    [candidates] = run.path.glob("working-*.rows-0")
    data = bytearray(candidates.read_bytes())
    data[20] ^= 1
    candidates.write_bytes(data)
    assert result.revoke_damaged() == [0] and 0 in result.missing
    result.close()
    again = Result.open(run, begin(run), made)
    assert 0 in again.missing and 1 not in again.missing
    write(again, again.missing)
    again.finish(tmp_path / "out.h5", {})
    again.close()
    check(tmp_path / "out.h5", TOP)


def test_damage_to_what_is_kept_is_found(keeps, tmp_path):
    keeps(TOP)
    run = directory(tmp_path)
    score(run, tmp_path, Disk())
    flip(tmp_path / "out.h5", "row_number", 3)
    assert look_through(tmp_path / "out.h5").faults == ["rows 0–3 differ from their checksum in the file"]


def test_a_disk_that_is_full_at_any_call_leaves_a_run_that_goes_on(keeps, tmp_path):
    keeps(TOP)
    (tmp_path / "whole").mkdir()
    disk = LossyDisk()
    score(directory(tmp_path / "whole"), tmp_path / "whole", disk)
    for k in range(0, disk.calls, 3):
        folder = tmp_path / str(k)
        folder.mkdir()
        run = directory(folder)
        with pytest.raises(OSError, check=lambda error: isinstance(as_verdict(error), Incomplete)):
            score(run, folder, RefusingDisk(errno.ENOSPC, k))
        score(run, folder, Disk())
        check(folder / "out.h5", TOP)
