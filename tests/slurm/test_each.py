"""Many files on a real Slurm: worlds of one node, elements of an array, claim them until none is left."""

import os
import subprocess
import time

import h5py
import numpy as np
import pytest
from support.project import Project

from hpcens.units import UnitsDirectory
from hpcens.units.worlds import load_world

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


def wait_for(condition, project, seconds=200):
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, project.hpcens("status", "out") + project.hpcens("logs", "out")
        time.sleep(0.05)
    return found


HELD = """
import time
from pathlib import Path
from nets_fast import Linear

FOLDER = Path(__file__).parent

class HeldLinear(Linear):
    def forward(self, x):
        while (FOLDER / "hold").exists() and (FOLDER / "out" / "b.predictions.run/epochs/0001/plan.json").exists():
            time.sleep(0.01)
        return super().forward(x)
"""


def test_an_element_that_is_warned_of_its_limit_goes_back_into_the_queue_and_on_with_what_it_left(project):
    project.yaml("output: {folder: out}\nslurm: {time: 5}", members={"linear": "HeldLinear"}, devices="{cpu: 1}")
    (project.folder / "nets.py").rename(project.folder / "nets_fast.py")
    (project.folder / "nets.py").write_text(HELD)
    for name, rows in (("a", 61), ("b", 60)):
        with h5py.File(project.folder / f"{name}.h5", "w") as file:
            file["images"] = np.random.default_rng(rows).random((rows, 3, 8, 8), np.float32)
    (project.folder / "hold").touch()  # at the second file
    job = project.hpcens("submit", "--each", "[ab].h5", "--parsable").strip()
    directory, epoch = UnitsDirectory(project.folder / "out.run"), project.folder / "out/b.predictions.run/epochs/0001"
    wait_for(lambda: (epoch / "plan.json").exists(), project)
    shown = project.hpcens("status", "out").splitlines()
    assert shown[0] == "running: 1 of 2 files done, 1 running"
    assert shown[-2].split()[:3] == ["world", "host", "job"]
    assert f" {job}_0 " in shown[-1] and shown[-1].endswith(" b.h5")
    subprocess.run(["scancel", "--signal=USR2", "--batch", job], env=project.environment, check=True)
    wait_for(lambda: '"draining"' in (epoch / "events.jsonl").read_text(), project)
    (project.folder / "hold").unlink()
    assert "complete: 2 of 2 files done" in project.hpcens("wait", "out")
    [attempts] = [own for own in directory.attempts().values() if len(own) > 1]
    assert [attempt.kind for attempt in attempts] == ["left", "done"]
    worlds = [load_world(directory.worlds / directory.claimant(attempt)[0]) for attempt in attempts]
    assert [world.job.restart for world in worlds] == [0, 1]
    assert {world.job.element for world in worlds} == {f"{job}_0"}
    assert "sound" in project.hpcens("verify", "out")
