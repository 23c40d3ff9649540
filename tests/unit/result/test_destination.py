"""Whether a result can be written where it is wanted, and how much it takes: in words that can be read."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from hpcens.errors import Incomplete, UsageError
from hpcens.result import check_output, require_room
from hpcens.specs import Job, RunSpec


@pytest.mark.parametrize("folder", ["/proc", "/sys"])
def test_a_folder_that_takes_no_files_is_refused_before_anything_starts(folder):
    with pytest.raises(UsageError, match=f"no file can be made in {folder}: |no permission to write into {folder}"):
        check_output(Path(folder) / "out.h5", None)


def test_looking_leaves_nothing_behind(tmp_path):
    check_output(tmp_path / "out.h5", None)
    assert list(tmp_path.iterdir()) == []


def test_a_small_result_on_a_full_disk_is_told_in_small_units(tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=300))
    job = Job(datasets=(tmp_path / "x.h5",), output=tmp_path / "out.h5", spec=RunSpec(members=()))
    with pytest.raises(Incomplete, match=r"will take 1\.5 MiB while it is written, and .* has 300 B free"):
        require_room(job, 3 << 19)
