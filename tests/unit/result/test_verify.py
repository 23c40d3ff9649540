"""Verification of a finished result."""

from support.results import directory, flip, score

from hpcens.result.disk import Disk
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
