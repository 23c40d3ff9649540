"""Durable results: any crash, any survivor, and the same command again give the same bytes."""

import errno
import fcntl
import hashlib
import json
from typing import get_args

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.lossy import Crash, LossyDisk, RefusingDisk

from hpcens.errors import DataError, HpcensError, Incomplete, as_verdict
from hpcens.processes import Process
from hpcens.result.disk import Disk
from hpcens.result.finished import Finished
from hpcens.result.form import Form
from hpcens.result.journal import RECORD_BYTES, Header, Journal, Kind, Record, read_journal
from hpcens.result.outputs import Output
from hpcens.result.packed import chunk_rows
from hpcens.result.result import Result, standing
from hpcens.result.verify import verify
from hpcens.result.working import WorkingFile
from hpcens.roles.dispatch import Shares
from hpcens.roles.reader import Reader
from hpcens.roles.reducer import Reducer
from hpcens.roles.worker import Worker
from hpcens.runs import Claim, Epoch, RunDirectory
from hpcens.specs import CompressionName, CompressionSpec
from hpcens.transports.tasks import reader_hands, reducer_hands, worker_hands
from hpcens.transports.virtual import VirtualWorld
from hpcens.vocabulary import Bad, Predicted, Segmentation

ROWS, SEGMENT = 22, 4
MEMBERS = ("a", "b")
GZIP = CompressionSpec(name="gzip")
DATA = np.arange(ROWS, dtype=np.float32)


def form(folder, compression=None):
    weights = folder / "a.safetensors"
    weights.write_bytes(b"weights")
    digest = hashlib.sha256(b"weights").hexdigest()
    attributes = {"fingerprint": "{}", "members": json.dumps({"a": {"path": str(weights), "weights": digest}})}
    outputs = (
        Output("prediction", (2,), "<f4", {"description": "what comes out"}, classes=True),
        Output("label", (), "<i4"),
    )
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
    (folder / "claim.json").write_text(Claim(number, str(number), 0.0, None, Process.current()).to_json())
    return Epoch(folder)


def score(run, folder, disk, compression=None, told=None):
    """One start in the virtual world; returns the segments that the reader was told are durable, added to `told`."""
    told = [] if told is None else told
    try:
        result = Result.open(run, begin(run), form(folder, compression), disk)
    except Crash:
        disk.crash()
        return ()
    segmentation = Segmentation(ROWS, SEGMENT)
    reader = Reader(
        segments=result.missing,
        members=MEMBERS,
        shares=Shares({"a": {2: 1.0, 3: 1.0}, "b": {3: 1.0}}),
        devices=[2, 3],
        reducers=[1],
        window=4,
        read_ahead=3,
    )
    world = VirtualWorld(
        {
            0: reader,
            1: Reducer(members=MEMBERS, devices=[2, 3], readers=[0], window=4, seconds=5.0),
            2: Worker(readers=[0], reducers=[1]),
            3: Worker(readers=[0], reducers=[1]),
        },
        {
            0: reader_hands(lambda s: (DATA[slice(*segmentation.bounds(s))],), lambda p: told.extend(p.segments)),
            1: reducer_hands(lambda t: result.write(t.segment, values(t.stack), {}, {0: t.bad[0]}), result.flush),
            2: worker_hands(predict, lambda t: None),
            3: worker_hands(predict, lambda t: None),
        },
        lambda rank, to, message: 0.1 * rank,
    )
    try:
        world.run()
        assert result.revoke_damaged() == []
        assert result.masked() == [(0, "output", 4, SEGMENT)]
        result.finish(folder / "out.h5", {"rows": ROWS})
        result.close()
    except Crash:
        disk.crash()
    return told


def predict(task):
    for member in task.members:
        values = np.stack([task.rows[0], -task.rows[0]], 1) + MEMBERS.index(member)
        bad = (Bad("output", (0, 2)),) if (task.segment, member) in ((1, "a"), (4, "a")) else ()
        yield Predicted(task.segment, member, values, 8, bad=bad)


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


def calls_of_a_whole_run(folder, compression=None):
    folder.mkdir()
    disk = LossyDisk()
    score(directory(folder), folder, disk, compression)
    assert content(folder / "out.h5") == EXPECTED
    return disk.calls


def test_crash_at_every_call_and_resume(tmp_path):
    """Story: the machine dies at call k; what was reported durable is durable; the next start completes the result."""
    calls = calls_of_a_whole_run(tmp_path / "whole")
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


def test_a_file_system_that_refuses_at_any_call_ends_resumable(tmp_path):
    """Story: the quota is used up, or the file server gone, from call k on; once that is mended nothing is lost."""
    calls = calls_of_a_whole_run(tmp_path / "whole")
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
        score(run, folder, Disk())
        assert content(folder / "out.h5") == EXPECTED, f"call {k}"
        assert verify(folder / "out.h5").faults == []


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


LFS = """#!/bin/sh
echo "$@" >>"$0.said"
case $1 in
getstripe) echo {stripes} ;;
setstripe) set -C; eval "last=\\${{$#}}"; : >"$last" ;;
esac
"""


@pytest.mark.parametrize(("stripes", "asked"), [("1", True), ("4", False), ("'': not on Lustre; exit 1'", False)])
def test_a_result_on_lustre_is_striped_unless_its_folder_says_how(tmp_path, monkeypatch, stripes, asked):
    (tmp_path / "bin").mkdir()
    lfs = tmp_path / "bin" / "lfs"
    lfs.write_text(LFS.format(stripes=stripes))
    lfs.chmod(0o755)
    monkeypatch.setenv("PATH", str(lfs.parent), prepend=":")
    run = directory(tmp_path)
    making = run.path / "working-0001.making"
    making.touch()  # a start was killed while it made the file
    score(run, tmp_path, Disk())
    said = (tmp_path / "bin" / "lfs.said").read_text().splitlines()
    assert said[0] == f"getstripe -c {run.path}"
    assert said[1:] == ([f"setstripe -c 8 -S 4M {making}"] if asked else [])
    assert content(tmp_path / "out.h5") == EXPECTED


def test_crash_at_every_call_of_the_copy_that_compresses(tmp_path):
    """Story: all rows are read back, the machine dies while they are copied: the result is whole or not there."""
    plain = calls_of_a_whole_run(tmp_path / "plain")
    calls = calls_of_a_whole_run(tmp_path / "whole", GZIP)
    assert calls > plain
    for k in range(plain - 10, calls):
        folder = tmp_path / str(k)
        folder.mkdir()
        run = directory(folder)
        written = score(run, folder, LossyDisk(dies_at=k, seed=k), GZIP)
        assert sorted(written) == list(range(6))
        output = folder / "out.h5"
        if not output.exists():
            check_nothing_reported_is_lost(run, folder, written)
            assert score(run, folder, Disk(), GZIP) == [], "nothing is scored again"
        assert content(output) == EXPECTED and verify(output).faults == [], f"call {k}"
        assert sorted(path.name for path in run.path.glob("*.h5")) == []


@pytest.mark.parametrize(
    "compression",
    [CompressionSpec(name=name, level=level) for name in get_args(CompressionName) for level in (None, 1)][:-1],
    ids=lambda of: f"{of.name}-{of.level}",
)
def test_a_compressed_result_says_and_verifies_the_same(tmp_path, compression):
    if compression.name == "lzf":
        compression = CompressionSpec(name="lzf")
    score(directory(tmp_path), tmp_path, Disk(), compression)
    path = tmp_path / "out.h5"
    assert content(path) == EXPECTED and verify(path).faults == []
    with h5py.File(path) as file:
        assert file["prediction"].chunks == (22, 2) and file["prediction"].id.get_create_plist().get_nfilters() > 0
        check_description(file)


def check_description(file):
    assert file["prediction"].attrs["description"] == "what comes out"
    assert file["prediction"].dims[0].label == "row" and file["prediction"].dims[1].label == "class"
    assert file["prediction"].dims[1]["classes"].asstr()[:].tolist() == ["down", "up"]
    assert (
        json.loads(bytes(file["hpcens/plan"][:])) == {} and json.loads(bytes(file["hpcens/summary"][:]))["rows"] == ROWS
    )


def test_a_result_describes_itself_in_plain_hdf5(tmp_path):
    score(directory(tmp_path), tmp_path, Disk())
    with h5py.File(tmp_path / "out.h5") as file:
        check_description(file)


def test_a_copy_that_reads_back_damaged_never_becomes_the_result(tmp_path, monkeypatch):
    run = directory(tmp_path)
    result = Result.open(run, begin(run), form(tmp_path, GZIP))
    for segment in result.missing:
        rows = result._form.segmentation.size(segment)
        result.write(segment, {"prediction": np.ones((rows, 2), "f4"), "label": np.ones(rows, "i4")}, {})
    result.flush(list(range(6)))
    monkeypatch.setattr(WorkingFile, "read", lambda self, output, start, stop: np.zeros((stop - start, *output.shape)))
    with pytest.raises(HpcensError, match="6 segments of the compressed copy read back damaged"):
        result.finish(tmp_path / "out.h5", {})
    assert not (tmp_path / "out.h5").exists() and run.working(1).exists()


def test_damage_in_a_compressed_result_is_told(tmp_path):
    score(directory(tmp_path), tmp_path, Disk(), GZIP)
    path = tmp_path / "out.h5"
    with h5py.File(path) as file:
        at, size = file["prediction"].id.get_chunk_info(0).byte_offset, file["prediction"].id.get_chunk_info(0).size
    with path.open("rb+") as raw:
        raw.seek(at + size // 2)
        raw.write(bytes(8))
    faults = verify(path).faults
    assert len(faults) == 6 and all("rows " in fault for fault in faults)
    with pytest.raises(DataError, match="rows 0–3"):
        Finished(path).read(0, ["label"])


def test_chunks_are_of_a_size_to_read_in():
    for shape in [(), (10,), (3, 224, 224), (1000, 1000)]:
        output = Output("x", shape, "<f4")
        rows = chunk_rows(output, 10**6)
        assert rows >= 1 and (rows == 1 or rows * output.row_bytes <= 1 << 20 < 2 * rows * output.row_bytes)
        assert chunk_rows(output, 1) == 1


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


def test_verify_names_what_is_wrong(tmp_path):
    score(directory(tmp_path), tmp_path, Disk())
    path = tmp_path / "out.h5"
    assert verify(path).sound
    flip(path, "label", 4 * 9)
    assert verify(path).faults == ["rows 8–11 differ from their checksum in the file"]
    (tmp_path / "a.safetensors").write_bytes(b"other")
    assert any("is not what was scored with" in fault for fault in verify(path).faults)
    journal = (run := directory(tmp_path)).journal(run.newest)
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
