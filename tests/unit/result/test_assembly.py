"""Parts of a dataset scored by themselves and put together: the bytes of one result, whatever is ended when."""

import os
import shutil
from dataclasses import replace

import h5py
import pytest
from support.disks import fill, small_disk
from support.lossy import Crash, LossyDisk
from support.results import (
    DATA,
    EXPECTED,
    GZIP,
    ROWS,
    SEGMENT,
    begin,
    check_description,
    content,
    directory,
    flip,
    form,
    predict,
    values,
)

from hpcens.errors import INCOMPLETE, as_verdict
from hpcens.result import room_for_assembly
from hpcens.result.assembly import begin_assembly
from hpcens.result.disk import Disk
from hpcens.result.parts import Part
from hpcens.result.result import Result, standing
from hpcens.result.verify import look_through
from hpcens.runs import RunDirectory
from hpcens.specs import CompressionSpec
from hpcens.vocabulary import Predict, Segmentation

SPANS = ((0, 3), (3, 5), (5, 6))


def score_part(folder, span, disk=None):
    """Score a part as a run of its own."""
    part = Part(folder / f"part-{span[0]}.h5", Segmentation(ROWS, SEGMENT, *span))
    own = replace(form(folder), segmentation=part.segmentation)
    run = RunDirectory.of(part.file)
    run.path.mkdir(exist_ok=True)
    result = Result.open(run, begin(run), own, disk or Disk())
    for segment in result.missing:
        rows = DATA[slice(*part.segmentation.bounds(segment))]
        found = list(predict(Predict(segment, ("a", "b"), (rows,))))
        result.write(segment, values([each.values for each in found]), {}, {0: found[0].bad})
        result.flush([segment])
    assert result.revoke_damaged() == []
    result.finish(part.file, {})
    result.close()
    return part


def assemble(folder, parts, disk=None, compression=None):
    run = directory(folder)
    assembly = begin_assembly(run, begin(run), form(folder, compression), disk)
    unsound = [part for part in parts if not assembly.take(part)]
    if not unsound:
        assert assembly.masked() == [(0, "output", 4, SEGMENT)]
        assembly.finish(folder / "out.h5", {"rows": ROWS})
    assembly.close()
    return unsound


@pytest.mark.parametrize("compression", [None, GZIP])
def test_parts_are_put_together_to_the_bytes_of_one_result(tmp_path, compression):
    parts = [score_part(tmp_path, span) for span in SPANS]
    with h5py.File(parts[1].file) as file:
        assert file["prediction"].shape == (8, 2) and file["hpcens/written"][:].tolist() == [1, 1]
    assert assemble(tmp_path, parts[::-1], compression=compression) == []
    assert content(tmp_path / "out.h5") == EXPECTED
    assert look_through(tmp_path / "out.h5").faults == []


@pytest.mark.parametrize(("compression", "step"), [(None, 5), (GZIP, 1)])
def test_a_machine_that_dies_at_any_call_loses_no_part(tmp_path, compression, step):
    whole = tmp_path / "whole"
    whole.mkdir()
    disk = LossyDisk()
    assemble(whole, [score_part(whole, span) for span in SPANS], disk, compression)
    assert disk.calls > (20 if compression else 40)
    pristine = tmp_path / "pristine"
    pristine.mkdir()
    for span in SPANS:
        score_part(pristine, span)
    for k in range(0, disk.calls, step):
        folder = tmp_path / str(k)
        shutil.copytree(pristine, folder)
        parts = [Part(folder / f"part-{span[0]}.h5", Segmentation(ROWS, SEGMENT, *span)) for span in SPANS]
        lossy = LossyDisk(dies_at=k, seed=k)
        with pytest.raises(Crash):
            assemble(folder, parts, lossy, compression)
        lossy.crash()
        if not (folder / "out.h5").exists():
            assert assemble(folder, parts, compression=compression) == []
        assert look_through(folder / "out.h5").faults == []
        assert content(folder / "out.h5") == EXPECTED, f"call {k}"


class CountingDisk(Disk):
    """A disk that counts the bytes it reads."""

    def __init__(self):
        self.bytes_read = 0

    def read(self, file, size, offset):
        self.bytes_read += size
        return super().read(file, size, offset)


@pytest.mark.parametrize("name", ["gzip", "lzf", "blosc-zstd"])
def test_compression_is_the_same_pass_as_the_copy(tmp_path, monkeypatch, name):
    """Story: the parts were copied whole, and the copy compressed: three times the room, and each byte read twice."""
    if name == "blosc-zstd":
        pytest.importorskip("hdf5plugin")
    monkeypatch.setattr("hpcens.result.packed._CHUNK_BYTES", 5 * 8)  # a chunk lies across segments, groups and parts
    monkeypatch.setattr("hpcens.result.parts._GROUP_BYTES", 2 * SEGMENT * 12)
    parts = [score_part(tmp_path, span) for span in SPANS]
    run, disk = directory(tmp_path), CountingDisk()
    assembly = begin_assembly(run, begin(run), form(tmp_path, CompressionSpec(name=name)), disk)
    assert [assembly.take(parts[number]) for number in (1, 0, 2)] == [True] * 3
    assert disk.bytes_read == ROWS * 12 and [path.name for path in run.path.glob("*.h5")] == ["packed-0001.h5"]
    assembly.finish(tmp_path / "out.h5", {"rows": ROWS, "masked": assembly.masked()})
    assembly.close()
    found = look_through(tmp_path / "out.h5")
    assert content(tmp_path / "out.h5") == EXPECTED and found.faults == [] and "start 1" in found.journal
    assert list(run.path.glob("*.h5")) == [] and all(part.file.exists() for part in parts)
    with h5py.File(tmp_path / "out.h5") as file:
        assert file["prediction"].chunks == (5, 2) and file["prediction"].id.get_create_plist().get_nfilters() > 0
        check_description(file)


def ends_with(run, epoch, parts, folder):
    """Return the code that an assembly ends with."""
    try:
        assembly = begin_assembly(run, epoch, form(folder, GZIP))
        fill(folder / "filler")
        for part in parts:
            assembly.take(part)
        assembly.finish(folder / "out.h5", {})
    except Exception as error:
        return as_verdict(error).exit_code
    return 0


def test_a_disk_that_fills_while_parts_are_compressed_costs_nothing_but_the_pass(tmp_path):
    with small_disk(tmp_path / "disk", "size=2m") as disk:
        parts = [score_part(disk, span) for span in SPANS]
        run = directory(disk)
        begun = begin(run)
        if not (child := os.fork()):  # HDF5 does not let go of a file that it cannot write
            os._exit(ends_with(run, begun, parts, disk))
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == INCOMPLETE
        assert not (disk / "out.h5").exists() and not run.packed(1).exists()
        (disk / "filler").unlink()
        assert assemble(disk, parts, compression=GZIP) == []
        assert content(disk / "out.h5") == EXPECTED and look_through(disk / "out.h5").faults == []


def test_the_room_for_an_assembly_is_that_of_one_copy(tmp_path):
    run, outputs = directory(tmp_path), form(tmp_path).outputs
    assert room_for_assembly(run, 1000, outputs, None) == 12_000
    assert room_for_assembly(run, 1000, outputs, GZIP) == 12_120
    run.packed(1).write_bytes(bytes(2000))  # what was begun goes first
    assert room_for_assembly(run, 1000, outputs, GZIP) == 10_120


def test_a_part_that_dies_at_any_call_is_gone_on_with(tmp_path):
    disk = LossyDisk()
    (tmp_path / "whole").mkdir()
    score_part(tmp_path / "whole", SPANS[1], disk)
    others = tmp_path / "others"
    others.mkdir()
    for span in (SPANS[0], SPANS[2]):
        score_part(others, span)
    for k in range(0, disk.calls, 3):
        folder = tmp_path / str(k)
        shutil.copytree(others, folder)
        lossy = LossyDisk(dies_at=k, seed=k)
        with pytest.raises(Crash):
            score_part(folder, SPANS[1], lossy)
        lossy.crash()
        score_part(folder, SPANS[1])
        parts = [Part(folder / f"part-{span[0]}.h5", Segmentation(ROWS, SEGMENT, *span)) for span in SPANS]
        assert assemble(folder, parts) == []
        assert content(folder / "out.h5") == EXPECTED, f"call {k}"


@pytest.mark.parametrize("compression", [None, GZIP])
@pytest.mark.parametrize("harm", ["flip", "gone", "journal", "other"])
def test_a_part_that_is_not_whole_is_named_and_nothing_of_it_counts(tmp_path, harm, compression):
    parts = [score_part(tmp_path, span) for span in SPANS]
    if harm == "flip":
        flip(parts[1].file, "prediction", 1)
    elif harm == "gone":
        parts[1].file.unlink()
    elif harm == "journal":
        run = RunDirectory.of(parts[1].file)
        run.journal(run.newest).unlink()
    else:
        with h5py.File(parts[1].file, "r+") as file:
            file.attrs["fingerprint"] = '{"other": 1}'
    assert assemble(tmp_path, parts, compression=compression) == [parts[1]]
    assert not (tmp_path / "out.h5").exists()
    run = RunDirectory.of(parts[1].file)
    durable = standing(directory(tmp_path))
    assert durable is None if compression else 3 not in durable.written()
    for path in [*run.path.rglob("*")][::-1]:
        path.rmdir() if path.is_dir() else path.unlink()
    parts[1].file.unlink(missing_ok=True)
    assert assemble(tmp_path, [score_part(tmp_path, span) for span in SPANS], compression=compression) == []
    assert content(tmp_path / "out.h5") == EXPECTED


def test_a_part_keeps_the_numbers_of_the_whole():
    part = Segmentation(ROWS, SEGMENT, 3, 5)
    assert (len(part), list(part.numbers), part.first_row, part.part_rows) == (6, [3, 4], 12, 8)
    assert Segmentation(ROWS, SEGMENT, 5, 6).part_rows == 2 and Segmentation(ROWS, SEGMENT, 0, 0).part_rows == 0
    with pytest.raises(ValueError, match="no segmentation"):
        Segmentation(ROWS, SEGMENT, 3, 7)
