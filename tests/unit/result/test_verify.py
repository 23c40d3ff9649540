"""Verification of a finished result."""

import os
import signal

import h5py
import pytest
from support.results import directory, flip, score

from hpcens.errors import DataError
from hpcens.result.disk import Disk
from hpcens.result.export import export
from hpcens.result.finished import Finished
from hpcens.result.journal import Kind, read_journal
from hpcens.result.verify import verify


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


def test_what_a_result_says_of_itself_is_sealed(tmp_path):
    score(directory(tmp_path), tmp_path, Disk())
    path = tmp_path / "out.h5"
    with h5py.File(path, "r+") as file:
        before = file["classes"][0]
        file["classes"][0] = "dawn"
    fault = "what it says of itself is not what was written: attributes, class names or documents"
    assert verify(path).faults == [fault]
    with pytest.raises(DataError, match="what it says of itself"):
        export(Finished(path), tmp_path / "out.csv")
    with h5py.File(path, "r+") as file:
        file["classes"][0] = before
        file["prediction"].attrs["description"] = "other"
    assert verify(path).faults == [fault]
    with h5py.File(path, "r+") as file:
        del file.attrs["checksum"]  # as earlier versions left it
    assert verify(path).sound
    with h5py.File(path, "r+") as file:
        del file["hpcens/written"]
    with pytest.raises(DataError, match="is damaged"):
        Finished(path)


def test_a_result_on_which_the_library_crashes_is_told_in_words(tmp_path, monkeypatch):
    path = tmp_path / "out.h5"
    with pytest.raises(DataError, match="no such file"):
        verify(path)
    score(directory(tmp_path), tmp_path, Disk())
    # what a damaged address makes of libhdf5, at the import of whoever reads the result
    (tmp_path / "h5py.py").write_text(f"import os; os.kill(os.getpid(), {int(signal.SIGSEGV)})")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    with pytest.raises(DataError, match="the process that read it was killed by SIGSEGV"):
        verify(path)
