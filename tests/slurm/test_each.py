"""Many files on a real Slurm: worlds of one node, elements of an array, claim them until none is left."""

import os
import subprocess

import h5py
import numpy as np
import pytest
from support.project import Project

pytestmark = pytest.mark.timeout(500)


@pytest.fixture
def project(tmp_path, weights, cache, cluster):
    made = Project(tmp_path, weights, cache).yaml(
        "output: {folder: out}\nslurm: {time: 5}", members={"linear": "Linear"}, devices="{cpu: 1}"
    )
    made.environment = made.environment | cluster
    made.patience = 400
    for number in range(6):
        path = tmp_path / f"day-{number // 3}" / f"part-{number % 3}.h5"
        path.parent.mkdir(exist_ok=True)
        with h5py.File(path, "w") as file:
            file["images"] = np.random.default_rng(number).random((60 + number, 3, 8, 8), np.float32)
    (tmp_path / "day-0" / "part-1.h5").write_bytes(b"no HDF5")
    yield made
    made.end()
    subprocess.run(["scancel", "--user", str(os.getuid())], env=made.environment, check=False)


def test_worlds_of_an_array_share_the_files_and_the_same_command_does_what_failed(project):
    said = project.hpcens("submit", "--each", "day-*/part-*.h5", "--array", "2", "--wait", code=65)
    assert "2 worlds for 6 files" in said and "5 of 6 files done, 1 failed" in said
    assert "failed (65): day-0/part-1.h5" in said
    worlds = list((project.folder / "out.run" / "worlds").iterdir())
    assert 1 <= len(worlds) <= 2
    with h5py.File(project.folder / "day-0" / "part-1.h5", "w") as file:
        file["images"] = np.zeros((20, 3, 8, 8), np.float32)
    said = project.hpcens("submit", "--each", "day-*/part-*.h5", "--array", "40%10", "--wait")
    assert "one world for 1 file" in said and "6 of 6 files done" in said


def test_worlds_of_an_array_share_one_dataset_with_whoever_joins(project):
    project.data(3000).yaml(
        "output: {path: out.h5}\nslurm: {time: 5}", members={"linear": "Linear"}, devices="{cpu: 1}"
    )
    said = project.hpcens("submit", "dataset.h5", "--array", "3%2")
    assert "3 worlds for out.h5" in said
    project.hpcens("run", "--join", "out.run", code=None)
    project.hpcens("submit", "dataset.h5", "--array", "1", "--wait", "--slurm", "comment=more")
    assert "complete" in project.hpcens("wait", "out.run")
    assert "3,000 rows scored in" in project.hpcens("status", "out.run")
    assert "sound" in project.hpcens("verify", "out.h5")
    logs = [path.read_text() for path in (project.folder / "out.run").glob("jobs/*/*.log")]
    assert logs and not any("Traceback" in text or "hpcens: " in text for text in logs)
