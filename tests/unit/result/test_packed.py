"""The copy that compresses: whole, or not there."""

from typing import get_args

import h5py
import numpy as np
import pytest
from support.lossy import LossyDisk
from support.results import (
    EXPECTED,
    GZIP,
    begin,
    calls_of_a_whole_run,
    check_description,
    check_nothing_reported_is_lost,
    content,
    directory,
    form,
    score,
)

from hpcens.errors import DataError, HpcensError
from hpcens.result.disk import Disk
from hpcens.result.finished import Finished
from hpcens.result.outputs import Output
from hpcens.result.packed import chunk_rows
from hpcens.result.result import Result
from hpcens.result.verify import look_through
from hpcens.result.working import WorkingFile
from hpcens.specs import CompressionName, CompressionSpec


def test_crash_at_every_call_of_the_copy_that_compresses(tmp_path):
    """Story: all rows are read back, the machine dies while they are copied: the result is whole or not there."""
    plain = calls_of_a_whole_run(tmp_path / "plain")
    calls = calls_of_a_whole_run(tmp_path / "whole", GZIP)
    assert calls > plain
    again = 0
    for k in range(plain - 10, calls):
        folder = tmp_path / str(k)
        folder.mkdir()
        run = directory(folder)
        written = score(run, folder, LossyDisk(dies_at=k, seed=k), GZIP)
        assert sorted(written) == list(range(6))
        output = folder / "out.h5"
        if not output.exists():
            again += 1
            check_nothing_reported_is_lost(run, folder, written)
            assert score(run, folder, Disk(), GZIP) == [], "nothing is scored again"
        assert content(output) == EXPECTED and look_through(output).faults == [], f"call {k}"
        assert sorted(path.name for path in run.path.glob("*.h5")) == []
    assert again > calls - plain


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
    assert content(path) == EXPECTED and look_through(path).faults == []
    with h5py.File(path) as file:
        assert file["prediction"].chunks == (22, 2) and file["prediction"].id.get_create_plist().get_nfilters() > 0
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
    faults = look_through(path).faults
    assert len(faults) == 6 and all("rows " in fault for fault in faults)
    with pytest.raises(DataError, match="rows 0–3"):
        Finished(path).read(0, ["label"])


def test_chunks_are_of_a_size_to_read_in():
    for shape in [(), (10,), (3, 224, 224), (1000, 1000)]:
        output = Output("x", shape, "<f4")
        rows = chunk_rows(output, 10**6)
        assert rows >= 1 and (rows == 1 or rows * output.row_bytes <= 1 << 20 < 2 * rows * output.row_bytes)
        assert chunk_rows(output, 1) == 1
