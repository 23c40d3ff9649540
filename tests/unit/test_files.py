"""Files on disks that are full or broken, and a cache that may keep nothing."""

import errno
import os

import h5py
import numpy as np
import pytest
from support.disks import fill, small_disk

from hpcens.cache import cache_folder, keep_in_cache
from hpcens.errors import FAILURE, INCOMPLETE, UsageError, as_verdict
from hpcens.files import digest_file
from hpcens.result.disk import made_by_hdf5
from hpcens.result.finished import fingerprint_of
from hpcens.vocabulary import Plan


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (OSError(errno.ENOSPC, "no", "/d/x"), INCOMPLETE, "no space is left on the device (/d/x)"),
        (RuntimeError("flush failed, filename = '/d/x', errno = 28, error message"), INCOMPLETE, "no space"),
        (OSError("write failed, errno = 122, error message"), INCOMPLETE, "quota"),
        (OSError(errno.EIO, "no", "/d/x"), FAILURE, "failed to read or write (/d/x)"),
        (RuntimeError("what else"), FAILURE, "RuntimeError: what else"),
    ],
)
def test_what_a_disk_refuses_is_named(error, code, says):
    ending = as_verdict(error)
    assert ending.exit_code == code and says in ending.what
    if "what else" not in says:
        assert "run the same command again" in ending.remedy


def test_what_hdf5_says_of_a_full_disk_is_the_disk(tmp_path):
    """HDF5 names a consequence alone: the disk is asked itself; and no part of the file stays in the way."""
    with small_disk(tmp_path / "disk", "size=64k") as disk:
        fill(disk / "filler")
        (disk / "x.h5").touch()
        with pytest.raises(OSError, match="No space left") as caught, made_by_hdf5(disk / "x.h5"):
            raise RuntimeError("Disable slist on flush dest failure failed")
        assert as_verdict(caught.value).exit_code == INCOMPLETE and not (disk / "x.h5").exists()
        (disk / "filler").unlink()
        with pytest.raises(RuntimeError, match="what else"), made_by_hdf5(disk / "x.h5"):
            raise RuntimeError("what else")
        with (
            pytest.raises((OSError, RuntimeError)) as caught,
            made_by_hdf5(disk / "x.h5"),
            h5py.File(disk / "x.h5", "w") as file,
        ):
            file["a"] = np.zeros(1 << 20)
        assert as_verdict(caught.value).exit_code == INCOMPLETE


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("HPCENS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_a_cache_that_refuses_is_warned_of_once(cache, capsys):
    cache.write_text("a file")
    for name in ("a.json", "b.json"):
        assert not keep_in_cache(cache_folder() / "profiles" / name, "{}")
    [line] = capsys.readouterr().err.splitlines()
    assert f"the cache {cache} keeps nothing" in line and "set HPCENS_CACHE" in line


def test_what_others_left_half_is_swept_from_the_cache(cache):
    old = [cache / ".x.json.17.00ff00ff", cache / "15658-0011aabb-16.ts"]
    kept = [cache / "x.json", cache / ".y.json.17.00ff00ff"]
    cache.mkdir()
    for path in (*old, *kept):
        path.write_text("half")
    for path in (*old, kept[0]):
        os.utime(path, (0, 0))
    assert keep_in_cache(cache / "z.json", "{}")
    assert sorted(cache.iterdir()) == sorted([*kept, cache / "z.json"])


@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
def test_only_regular_files_are_digested_or_taken_for_plans_and_results(tmp_path, kind):
    path = tmp_path / "x"
    if kind == "device":
        path.symlink_to("/dev/zero")
    else:
        (os.mkfifo if kind == "pipe" else os.mkdir)(path)
    with pytest.raises(OSError, match="it is a folder, a pipe or a device, not a regular file"):
        digest_file(path)
    assert fingerprint_of(path) is None
    with pytest.raises(UsageError, match="is a folder, a pipe or a device"):
        Plan.load(path)
