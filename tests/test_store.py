"""Durable results: any crash, any survivor, and the same command again give the same bytes."""

import hashlib
import json

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lossy import Crash, LossyDisk

from hpcens.hands import reader_hands, reducer_hands, worker_hands
from hpcens.messages import Predicted
from hpcens.outputs import Output
from hpcens.roles.dispatch import Shares
from hpcens.roles.reader import Reader
from hpcens.roles.reducer import Reducer
from hpcens.roles.worker import Worker
from hpcens.rundir import Epoch, RunDirectory
from hpcens.segments import Segmentation
from hpcens.store.disk import Disk
from hpcens.store.form import Form
from hpcens.store.journal import RECORD_BYTES, Header, Journal, Kind, Record, read_journal
from hpcens.store.result import Result, standing
from hpcens.store.verify import verify
from hpcens.transports.virtual import VirtualWorld

ROWS, SEGMENT = 22, 4
MEMBERS = ("a", "b")
DATA = np.arange(ROWS, dtype=np.float32)


def form(folder, compression=None):
    weights = folder / "a.safetensors"
    weights.write_bytes(b"weights")
    digest = hashlib.sha256(b"weights").hexdigest()
    attributes = {"fingerprint": "{}", "members": json.dumps({"a": {"path": str(weights), "weights": digest}})}
    outputs = (Output("prediction", (2,), "<f4"), Output("label", (), "<i4"))
    return Form(
        outputs=outputs,
        segmentation=Segmentation(ROWS, SEGMENT),
        attributes=attributes,
        classes=("down", "up"),
        documents={"plan": "{}"},
        compression=compression,
    )


def directory(folder):
    run = RunDirectory.of(folder / "out.h5")
    run.path.mkdir(exist_ok=True)
    return run


def begin(run):
    """The next epoch, without asking whether the one before is alive: here it is this very process."""
    number = run.newest.number + 1 if run.newest else 1
    folder = run.path / "epochs" / f"{number:04d}"
    folder.mkdir(parents=True)
    (folder / "claim.json").write_text(json.dumps({"id": str(number)}))
    return Epoch(folder)


def score(run, folder, disk):
    """One start in the virtual world; returns the segments that the reader was told are durable."""
    try:
        result = Result.open(run, begin(run), form(folder), disk)
    except Crash:
        disk.crash()
        return ()
    segmentation = Segmentation(ROWS, SEGMENT)
    told = []
    reader = Reader(
        segments=result.missing,
        members=MEMBERS,
        shares=Shares({"a": {2: 1.0, 3: 1.0}, "b": {3: 1.0}}),
        devices=[2, 3],
        reducer=1,
        window=4,
        read_ahead=3,
    )
    world = VirtualWorld(
        {
            0: reader,
            1: Reducer(members=MEMBERS, devices=[2, 3], reader=0, window=4, seconds=5.0),
            2: Worker(reader=0, reducer=1),
            3: Worker(reader=0, reducer=1),
        },
        {
            0: reader_hands(lambda s: (DATA[slice(*segmentation.bounds(s))],), lambda p: told.extend(p.segments)),
            1: reducer_hands(lambda s, stack, batches: result.write(s, values(stack), {}), result.flush),
            2: worker_hands(predict, lambda t: None),
            3: worker_hands(predict, lambda t: None),
        },
        lambda rank, to, message: 0.1 * rank,
    )
    try:
        world.run()
        assert result.revoke_damaged() == []
        result.finish(folder / "out.h5", {"rows": ROWS})
        result.close()
    except Crash:
        disk.crash()
    return told


def predict(task):
    for member in task.members:
        values = np.stack([task.rows[0], -task.rows[0]], 1) + MEMBERS.index(member)
        yield Predicted(task.segment, member, values, 8)


def values(stack):
    prediction = (stack[0] + 3 * stack[1]).astype(np.float32)
    return {"prediction": prediction, "label": prediction[:, 0].astype(np.int32)}


def content(path):
    with h5py.File(path) as file:
        return file["prediction"][:].tobytes(), file["label"][:].tobytes()


WHOLE = values([np.stack([DATA, -DATA], 1), np.stack([DATA, -DATA], 1) + 1])
EXPECTED = tuple(array.tobytes() for array in WHOLE.values())


def check_nothing_reported_is_lost(run, folder, reported):
    """Whatever a reader was told is durable: journalled, and its very bytes on the disk."""
    kept = standing(run)
    assert set(reported) <= set(kept.written() if kept else ()), "reported and not journalled"
    finished = folder / "out.h5"
    with h5py.File(finished if finished.exists() else run.path / kept.header.working if kept else finished) as file:
        for segment in reported:
            rows = slice(*Segmentation(ROWS, SEGMENT).bounds(segment))
            assert file["prediction"][rows].tobytes() == WHOLE["prediction"][rows].tobytes(), "reported and lost"
            assert file["label"][rows].tobytes() == WHOLE["label"][rows].tobytes(), "reported and lost"


def calls_of_a_whole_run(folder):
    disk = LossyDisk()
    score(directory(folder), folder, disk)
    assert content(folder / "out.h5") == EXPECTED
    return disk.calls


def test_crash_at_every_call_and_resume(tmp_path):
    """Story: the machine dies at call k; what was reported durable is durable; the next start completes the result."""
    (whole := tmp_path / "whole").mkdir()
    calls = calls_of_a_whole_run(whole)
    assert calls > 40
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
        score(run, folder, Disk())
        assert content(folder / "out.h5") == EXPECTED, f"call {k}"
        assert verify(folder / "out.h5").faults == []


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
    assert verify(folder / "out.h5").faults == []


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
    assert verify(tmp_path / "out.h5").faults == []


def test_bytes_damaged_between_two_starts_are_scored_again(tmp_path):
    run = directory(tmp_path)
    first = Result.open(run, begin(run), form(tmp_path))
    ones = {"prediction": np.ones((4, 2), np.float32), "label": np.ones(4, np.int32)}
    for segment in range(3):
        first.write(segment, ones, {})
    first.flush([0, 1, 2])
    flip(run.working(1), "prediction", 1 * SEGMENT * 8)
    assert Result.open(run, begin(run), form(tmp_path)).missing == [1, 3, 4, 5]


def flip(path, name, at):
    """Change one byte of a dataset behind everybody's back."""
    with h5py.File(path) as file:
        offset = file[name].id.get_offset()
    with path.open("rb+") as raw:
        raw.seek(offset + at)
        byte = raw.read(1)[0]
        raw.seek(offset + at)
        raw.write(bytes([byte ^ 0xFF]))


def test_an_epoch_that_closed_in_order_hands_its_file_on_without_a_copy(tmp_path):
    run = directory(tmp_path)
    first = Result.open(run, begin(run), form(tmp_path))
    one = {"prediction": np.ones((4, 2), np.float32), "label": np.ones(4, np.int32)}
    first.write(2, one, {0: 4}), first.flush([2]), first.close()
    inode = run.working(1).stat().st_ino
    second = Result.open(run, begin(run), form(tmp_path))
    assert second.missing == [0, 1, 3, 4, 5]
    assert [path.stat().st_ino for path in run.path.glob("working-*")] == [inode]
    assert [(r.member, r.batch) for r in standing(run).reduced()] == [(0, 4)]


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


def test_verify_names_what_is_wrong(tmp_path):
    score(directory(tmp_path), tmp_path, Disk())
    path = tmp_path / "out.h5"
    assert verify(path).sound
    flip(path, "label", 4 * 9)
    assert verify(path).faults == ["rows 8–11 differ from their checksum in the file"]
    (tmp_path / "a.safetensors").write_bytes(b"other")
    assert any("is not what was scored with" in fault for fault in verify(path).faults)
    journal = directory(tmp_path).newest.journal
    content_ = read_journal(journal)
    doubled = next(r for r in content_.records if r.kind == Kind.WRITTEN)
    with journal.open("ab") as raw:
        raw.write(doubled.pack())
    assert any("twice" in fault for fault in verify(path).faults)


@given(st.integers(0, 6 * RECORD_BYTES), st.binary(max_size=100))
def test_a_torn_journal_keeps_exactly_its_whole_records(tmp_path_factory, cut, garbage):
    path = tmp_path_factory.mktemp("journal") / "journal"
    journal = Journal(Disk(), path, Header(1, "id", "working-0001.h5", 9))
    records = [Record(Kind.INHERITED), *(Record(Kind.WRITTEN, segment=i, checksum=i * 7, time=1.0) for i in range(5))]
    journal.append(records)
    journal.close()
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) - 6 * RECORD_BYTES + cut] + garbage)
    kept = read_journal(path).written()
    assert list(kept)[: max(0, cut // RECORD_BYTES - 1)] == list(range(max(0, cut // RECORD_BYTES - 1)))
    assert all(kept[s].checksum == s * 7 for s in kept if s < 5)
