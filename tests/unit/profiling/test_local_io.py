"""What is measured of a disk: once for the starts of one process, which may take less time than that."""

from types import SimpleNamespace

import pytest

from hpcens.dataset import Reading
from hpcens.profiling import local_io, measure_io
from hpcens.result import SPEED_BYTES


@pytest.fixture
def measured(monkeypatch):
    """Which of reading, writing and syncing was measured, in its order."""
    seen = []
    monkeypatch.setattr(local_io, "_measured", {})
    monkeypatch.setattr(local_io, "reading_speed", lambda *_: seen.append("reading") or Reading(10.0, 2))
    monkeypatch.setattr(local_io, "sync_seconds", lambda folder: seen.append("sync") or 0.01)
    monkeypatch.setattr(local_io, "writing_speed", lambda folder, size: seen.append("writing") or 1e9)
    return seen


def job(folder):
    return SimpleNamespace(datasets=(), spec=SimpleNamespace(dataset=None), limit=None, output=folder / "out.h5")


def test_files_and_blocks_of_one_process_measure_their_disk_once_and_reading_each(tmp_path, measured, monkeypatch):
    """Story: of a file that takes 0.05 s the syncs by which its disk was measured took most."""
    first = measure_io(job(tmp_path), SPEED_BYTES)
    assert (first.reading, first.disk, first.sync_seconds) == (10.0, 1e9, 0.01)
    assert measured == ["reading", "sync", "writing"]
    assert measure_io(job(tmp_path), SPEED_BYTES) == first and measured[3:] == ["reading"]
    assert measure_io(job(tmp_path), SPEED_BYTES - 1).disk is None, "few bytes are not limited by it"
    monkeypatch.setattr(local_io, "_HOLDS_SECONDS", -1.0)
    measure_io(job(tmp_path), SPEED_BYTES)
    assert measured[5:] == ["reading", "sync", "writing"]
