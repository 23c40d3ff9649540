"""What killed starts leave in memory and in the temporary folder is swept, and nothing that anybody uses."""

import mmap
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hpcens.processes import born, leftovers
from hpcens.processes.leftovers import sweep, temporary_prefix


@pytest.fixture
def host(tmp_path, monkeypatch):
    """A host whose memory and temporary folder are a test's own."""
    for name in ("shm", "tmp"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr(leftovers, "_MEMORY", tmp_path / "shm")
    monkeypatch.setattr(leftovers.tempfile, "gettempdir", lambda: str(tmp_path / "tmp"))
    return tmp_path


def old(path, seconds=3600):
    path.write_bytes(b"x" * 4096)
    os.utime(path, (time.time() - seconds,) * 2)
    return path


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_memory_that_nobody_has_mapped_is_swept(host):
    old(host / "shm" / "mpich_shm_1_0")
    old(host / "shm" / "mpich_shm_2_0", seconds=1)
    old(host / "shm" / "sem.somebody")
    used = old(host / "shm" / "mpich_shm_3_0")
    with used.open("r+b") as file, mmap.mmap(file.fileno(), 0):
        sweep()
        assert names(host / "shm") == ["mpich_shm_2_0", "mpich_shm_3_0", "sem.somebody"]
    sweep()
    assert names(host / "shm") == ["mpich_shm_2_0", "sem.somebody"]


def test_memory_is_younger_for_longer_where_processes_may_be_out_of_sight(host, monkeypatch):
    old(host / "shm" / "mpich_shm_1_0", seconds=60)
    monkeypatch.setattr(leftovers, "_namespace", lambda: "pid:[7]")
    sweep()
    assert names(host / "shm") == ["mpich_shm_1_0"]


def test_what_another_user_left_stays(host, monkeypatch):
    old(host / "shm" / "mpich_shm_1_0")
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    sweep()
    assert names(host / "shm") == ["mpich_shm_1_0"]


def test_folders_of_processes_that_ended_are_swept(host, monkeypatch):
    mine = host / "tmp" / f"{temporary_prefix()}a"
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    here = temporary_prefix().split("-")[1]
    reused = f"hpcens-{here}-{os.getpid()}-{born(os.getpid()) - 1}-b"
    elsewhere = f"hpcens-0f0f-{dead.pid}-1-d"
    for name in (mine.name, reused, f"hpcens-{here}-{dead.pid}-1-c", elsewhere, "hpcens-notes"):
        (host / "tmp" / name).mkdir()
        (host / "tmp" / name / "file").touch()
    sweep()
    assert names(host / "tmp") == sorted([mine.name, elsewhere, "hpcens-notes"])


def test_files_of_a_launcher_that_lives_stay(host, monkeypatch):
    file = old(host / "tmp" / "hydra_hwloc_xmlfile_a1")
    since = time.time() - 1800
    for launchers, left in (([time.time() - 7200], [file.name]), ([since], [])):
        monkeypatch.setattr(leftovers, "_launchers", lambda born=launchers: iter(born))
        sweep()
        assert names(host / "tmp") == left


def test_launchers_are_found_by_name_and_birth(tmp_path):
    (tmp_path / "mpiexec.hydra").symlink_to("/bin/sleep")
    before = time.time()
    process = subprocess.Popen([tmp_path / "mpiexec.hydra", "60"])
    try:
        while "mpiexec" not in (comm := Path(f"/proc/{process.pid}/comm").read_text()):
            time.sleep(0.01)
        assert comm.startswith("mpiexec.hydra")
        assert any(abs(birth - before) < 3 for birth in leftovers._launchers())
    finally:
        process.kill()
        process.wait()
