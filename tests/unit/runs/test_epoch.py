"""The folder of a start and the verdict it ends with."""

import errno
from pathlib import Path

from hpcens.errors import COMPLETE, INCOMPLETE
from hpcens.runs import AGAIN, RunDirectory, Verdict


def test_a_verdict_is_told_on_a_full_disk_too(tmp_path, monkeypatch):
    epoch = RunDirectory(tmp_path / "x.run").begin()

    def full(path, text):
        path.touch()
        raise OSError(errno.ENOSPC, "no space is left")

    monkeypatch.setattr(Path, "write_text", full)
    full_disk = Verdict(INCOMPLETE, "the disk is full", AGAIN)
    assert epoch.judge(full_disk) == full_disk == epoch.verdict
    assert epoch.judge(Verdict(COMPLETE, "another rank, later")) == full_disk
    assert [path.name for path in epoch.folder.glob(".*")] == []
