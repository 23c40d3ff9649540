"""A disk that fills while a run writes, and caches that keep nothing: resumable or unharmed, and said in words."""

import json
import os
import subprocess
import sys

import pytest
from support.disks import fill, fill_names, small_disk
from support.interruption import rank_of, some_are_durable, wait_for, write_held
from support.project import MEMBERS, Project


@pytest.fixture
def small(tmp_path, weights, cache):
    """A project on a disk of its own, whose members wait after some segments while the file `hold` exists."""
    with small_disk(tmp_path / "disk", "size=8m,nr_inodes=400") as disk:
        project = Project(disk, weights, cache).data(800).yaml(members=MEMBERS | {"linear": "HeldLinear"})
        write_held(disk)
        project.hpcens("profile", "dataset.h5")
        project.hpcens("plan", "dataset.h5", "-o", "plan.json")
        plan = json.loads((disk / "plan.json").read_text())
        plan["numerics"]["segment_rows"] = 4
        (disk / "plan.json").write_text(json.dumps(plan | {"window": 8, "read_ahead": 6}))
        yield project
        project.end()


@pytest.mark.parametrize("filled", ["bytes", "names"])
@pytest.mark.parametrize("when", ["first", "midway"])
def test_a_disk_that_fills_ends_resumable_and_is_named(small, filled, when):
    """Story: somebody else fills the disk, on which the ranks' log is too; then there is room again."""
    (small.folder / "hold").write_text("12")
    process = small.start("run", "dataset.h5", "--plan", "plan.json")
    wait_for(lambda: rank_of(small, "reader") if when == "first" else some_are_durable(small), process)
    if filled == "bytes":
        fill(small.folder / "filler")
    else:
        (small.folder / "names").mkdir()
        fill_names(small.folder / "names")
    (small.folder / "hold").rename(small.folder / "released")
    out, error = process.communicate(timeout=small.patience)
    if filled == "names" and process.returncode == 0:
        return  # all files were there already
    log = (small.run / "epochs/0001/output.log").read_text(errors="replace")
    print(out, error, log)
    assert process.returncode == 75
    assert "no space is left on the device" in error and "make room" in error
    again = small.hpcens("run", "dataset.h5", "--plan", "plan.json", code=75)
    assert "no space is left on the device" in again or (" has " in again and " free" in again)
    subprocess.run(["rm", "-rf", small.folder / "filler", small.folder / "names"], check=True)
    small.hpcens("run", "dataset.h5", "--plan", "plan.json")
    assert "sound" in small.hpcens("verify", "dataset.predictions.h5")


@pytest.fixture(scope="module")
def expected(tmp_path_factory, weights, cache):
    """Return what is predicted for a hundred rows."""
    project = Project(tmp_path_factory.mktemp("whole"), weights, cache).data(100).yaml()
    project.hpcens("run", "dataset.h5")
    return project.predictions()


@pytest.mark.parametrize("broken", ["a file", "full", "absent", "links"])
def test_a_cache_that_keeps_nothing_is_a_warning(tmp_path, project, expected, broken):
    """Story: the cache's folder is a file, full, below a file, or has a file where a folder is to be."""
    project.data(100).yaml()
    with small_disk(tmp_path / "disk", "size=20k") as disk:
        place = {"full": disk, "links": disk, "absent": disk / "file" / "below", "a file": disk / "file"}[broken]
        (disk / "file").write_text("")
        if broken == "links":
            (disk / "profiles").write_text("")
        project.environment["HPCENS_CACHE"] = str(place)
        text = project.hpcens("run", "dataset.h5")
    logged = (project.run / "epochs/0001/output.log").read_text()
    assert f"the cache {place} keeps nothing" in text + logged and "set HPCENS_CACHE" in text + logged
    assert text.count("keeps nothing") <= 1
    assert project.predictions().tobytes() == expected.tobytes()


def test_a_log_on_a_full_disk_changes_no_exit_code(project, tmp_path):
    with small_disk(tmp_path / "disk", "size=16k") as disk, (disk / "log").open("wb") as log:
        fill(disk / "filler")
        process = subprocess.run(
            [sys.executable, "-m", "hpcens", "run", "dataset.h5"],
            cwd=project.folder,
            env=project.environment | {"PYTHONPATH": os.pathsep.join(sys.path)},
            stdout=log,
            stderr=log,
            check=False,
            timeout=project.patience,
        )
    assert process.returncode == 0 and project.output.exists()
