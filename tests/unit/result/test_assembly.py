"""Parts of a dataset scored by themselves and put together: the bytes of one result, whatever is ended when."""

import shutil
from dataclasses import replace

import h5py
import pytest
from support.lossy import Crash, LossyDisk
from support.results import DATA, EXPECTED, GZIP, ROWS, SEGMENT, begin, content, directory, flip, form, predict, values

from hpcens.result.assembly import Assembly, Part
from hpcens.result.disk import Disk
from hpcens.result.result import Result, standing
from hpcens.result.verify import look_through
from hpcens.runs import RunDirectory
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
    assembly = Assembly(run, begin(run), form(folder, compression), disk)
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


def test_a_machine_that_dies_at_any_call_loses_no_part(tmp_path):
    whole = tmp_path / "whole"
    whole.mkdir()
    disk = LossyDisk()
    assemble(whole, [score_part(whole, span) for span in SPANS], disk)
    assert disk.calls > 40
    pristine = tmp_path / "pristine"
    pristine.mkdir()
    for span in SPANS:
        score_part(pristine, span)
    for k in range(0, disk.calls, 5):
        folder = tmp_path / str(k)
        shutil.copytree(pristine, folder)
        parts = [Part(folder / f"part-{span[0]}.h5", Segmentation(ROWS, SEGMENT, *span)) for span in SPANS]
        lossy = LossyDisk(dies_at=k, seed=k)
        with pytest.raises(Crash):
            assemble(folder, parts, lossy)
        lossy.crash()
        assert assemble(folder, parts) == []
        assert content(folder / "out.h5") == EXPECTED, f"call {k}"


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


@pytest.mark.parametrize("harm", ["flip", "gone", "journal", "other"])
def test_a_part_that_is_not_whole_is_named_and_nothing_of_it_counts(tmp_path, harm):
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
    assert assemble(tmp_path, parts) == [parts[1]]
    assert not (tmp_path / "out.h5").exists()
    run = RunDirectory.of(parts[1].file)
    assert 3 not in standing(directory(tmp_path)).written()
    for path in [*run.path.rglob("*")][::-1]:
        path.rmdir() if path.is_dir() else path.unlink()
    parts[1].file.unlink(missing_ok=True)
    assert assemble(tmp_path, [score_part(tmp_path, span) for span in SPANS]) == []
    assert content(tmp_path / "out.h5") == EXPECTED


def test_a_part_keeps_the_numbers_of_the_whole():
    part = Segmentation(ROWS, SEGMENT, 3, 5)
    assert (len(part), list(part.numbers), part.first_row, part.part_rows) == (6, [3, 4], 12, 8)
    assert Segmentation(ROWS, SEGMENT, 5, 6).part_rows == 2 and Segmentation(ROWS, SEGMENT, 0, 0).part_rows == 0
    with pytest.raises(ValueError, match="no segmentation"):
        Segmentation(ROWS, SEGMENT, 3, 7)
