"""Durable results: any crash, any survivor, and the same command again give the same bytes."""

import errno
import fcntl

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.lossy import LossyDisk, RefusingDisk
from support.results import (
    DATA,
    EXPECTED,
    GZIP,
    ROWS,
    SEGMENT,
    begin,
    calls_of_a_whole_run,
    check_description,
    check_nothing_reported_is_lost,
    content,
    directory,
    flip,
    form,
    score,
    values,
)

from hpcens.errors import DataError, Incomplete, as_verdict
from hpcens.result.disk import Disk
from hpcens.result.result import Result, standing
from hpcens.result.verify import look_through
from hpcens.vocabulary import Segmentation


def test_crash_at_every_call_and_resume(tmp_path):
    """Story: the machine dies at call k; what was reported durable is durable; the next start completes the result."""
    calls = calls_of_a_whole_run(tmp_path / "whole")
    assert calls > 40
    reported = 0
    for k in range(calls):
        folder = tmp_path / str(k)
        folder.mkdir()
        run = directory(folder)
        written = score(run, folder, LossyDisk(dies_at=k, seed=k))
        for path in run.path.glob("working-*.h5"):
            with h5py.File(path) as file:
                assert file["prediction"].shape == (ROWS, 2)
        if written:
            check_nothing_reported_is_lost(run, folder, written)
            reported += 1
        score(run, folder, Disk())
        assert content(folder / "out.h5") == EXPECTED, f"call {k}"
        assert look_through(folder / "out.h5").faults == []
    assert reported > calls // 4


def test_a_file_system_that_refuses_at_any_call_ends_resumable(tmp_path):
    """Story: the quota is used up, or the file server gone, from call k on; once that is mended nothing is lost."""
    calls = calls_of_a_whole_run(tmp_path / "whole")
    assert calls > 40
    reported = 0
    for k in range(calls):
        folder = tmp_path / str(k)
        folder.mkdir()
        run = directory(folder)
        told = []
        number = (errno.ENOSPC, errno.EDQUOT, errno.ESTALE)[k % 3]
        with pytest.raises(OSError, check=lambda error: isinstance(as_verdict(error), Incomplete)):
            score(run, folder, RefusingDisk(number, k), told=told)
        if told:
            check_nothing_reported_is_lost(run, folder, told)
            reported += 1
        score(run, folder, Disk())
        assert content(folder / "out.h5") == EXPECTED, f"call {k}"
        assert look_through(folder / "out.h5").faults == []
    assert reported > calls // 4


def test_a_mount_without_locks_is_no_obstacle(tmp_path):
    """As where no lock is granted: another holds an exclusive one on every file that HDF5 is to open."""
    run = directory(tmp_path)
    held = []
    for path in (run.path / "working-0001.making", run.path / "packed-0001.h5"):
        held.append(path.open("w"))
        fcntl.flock(held[-1], fcntl.LOCK_EX)
    score(run, tmp_path, Disk(), GZIP)
    assert content(tmp_path / "out.h5") == EXPECTED
    for file in held:
        file.close()


def test_a_result_describes_itself_in_plain_hdf5(tmp_path):
    score(directory(tmp_path), tmp_path, Disk())
    with h5py.File(tmp_path / "out.h5") as file:
        check_description(file)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.integers(0, 70), max_size=6), st.integers(0, 2**32))
def test_any_chain_of_crashes_ends_in_the_same_bytes(tmp_path_factory, kills, seed):
    folder = tmp_path_factory.mktemp("chain")
    run = directory(folder)
    reported = set()
    for k in kills:
        if not (folder / "out.h5").exists():
            reported |= set(score(run, folder, LossyDisk(dies_at=k, seed=seed + k)))
            if reported:
                check_nothing_reported_is_lost(run, folder, reported)
    if not (folder / "out.h5").exists():
        score(run, folder, Disk())
    assert content(folder / "out.h5") == EXPECTED
    assert look_through(folder / "out.h5").faults == []


def test_a_writer_left_alive_cannot_reach_its_successors_file(tmp_path):
    """Story: node failure is declared, the job runs again elsewhere, the old rank lives on and writes garbage."""
    run = directory(tmp_path)
    old = Result.open(run, begin(run), form(tmp_path))
    good = {"prediction": np.zeros((4, 2), np.float32), "label": np.zeros(4, np.int32)}
    true = {
        s: values([np.stack([DATA, -DATA], 1)[r], np.stack([DATA, -DATA], 1)[r] + 1])
        for s in range(6)
        for r in [slice(*Segmentation(ROWS, SEGMENT).bounds(s))]
    }
    old.write(0, true[0], {}), old.flush([0])
    new = Result.open(run, begin(run), form(tmp_path))
    assert new.missing == [1, 2, 3, 4, 5]
    for segment in (0, 1, 2):
        old.write(segment, good, {})
    old.flush([0, 1, 2])
    for segment in new.missing:
        new.write(segment, true[segment], {})
        old.write(3, good, {})
    new.flush(new.missing)
    old.flush([3])
    assert new.revoke_damaged() == []
    new.finish(tmp_path / "out.h5", {})
    old.write(4, good, {}), old.flush([4])
    with pytest.raises(Exception, match="are missing"):
        old.finish(tmp_path / "out.h5", {})
    new.close()
    assert content(tmp_path / "out.h5") == EXPECTED
    assert look_through(tmp_path / "out.h5").faults == []


def test_bytes_damaged_between_two_starts_are_scored_again(tmp_path):
    run = directory(tmp_path)
    first = Result.open(run, begin(run), form(tmp_path))
    ones = {"prediction": np.ones((4, 2), np.float32), "label": np.ones(4, np.int32)}
    for segment in range(3):
        first.write(segment, ones, {})
    first.flush([0, 1, 2])
    flip(run.working(1), "prediction", 1 * SEGMENT * 8)
    assert Result.open(run, begin(run), form(tmp_path)).missing == [1, 3, 4, 5]


def test_a_working_file_without_its_own_datasets_is_refused_in_words(tmp_path):
    run = directory(tmp_path)
    Result.open(run, begin(run), form(tmp_path))
    with h5py.File(run.working(1), "r+") as file:
        del file["hpcens/summary"]
    with pytest.raises(DataError, match=r"is damaged: .*summary"):
        Result.open(run, begin(run), form(tmp_path))


def test_an_epoch_that_closed_in_order_hands_its_file_on_without_a_copy(tmp_path):
    run = directory(tmp_path)
    first = Result.open(run, begin(run), form(tmp_path))
    one = {"prediction": np.ones((4, 2), np.float32), "label": np.ones(4, np.int32)}
    first.write(2, one, {0: 4}), first.flush([2]), first.close()
    inode = run.working(1).stat().st_ino
    second = Result.open(run, begin(run), form(tmp_path))
    assert second.missing == [0, 1, 3, 4, 5]
    assert [path.stat().st_ino for path in run.path.glob("working-*")] == [inode]
    assert [(r.member, r.batch) for r in standing(run).notes()] == [(0, 4)]


def test_damage_is_found_before_the_final_name_and_scored_again(tmp_path):
    run = directory(tmp_path)
    result = Result.open(run, begin(run), form(tmp_path))
    for segment in result.missing:
        rows = result._form.segmentation.size(segment)
        result.write(segment, {"prediction": np.ones((rows, 2), "f4"), "label": np.ones(rows, "i4")}, {})
    result.flush(list(range(6)))
    flip(run.working(1), "prediction", 3 * SEGMENT * 8 + 1)
    assert result.revoke_damaged() == [3]
    assert result.missing == [3] and standing(run).written().keys() == {0, 1, 2, 4, 5}
