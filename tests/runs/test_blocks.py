"""Two worlds on one host share a dataset; one is killed, and what there is in the end is one world's result."""

import shutil
import signal
import time

import h5py
import pytest
from support.project import Project

pytestmark = pytest.mark.mpi


def content(path):
    with h5py.File(path) as file:
        names = [*file.attrs["outputs"], "hpcens/checksums", "hpcens/written"]
        return {name: file[name][:].tobytes() for name in names} | {"made of": file.attrs["fingerprint"]}


def test_a_world_that_is_killed_costs_its_block_and_another_finishes(tmp_path, weights, cache):
    project = Project(tmp_path, weights, cache).data(3000)
    project.yaml(members={"linear": "Linear", "conv": "Conv"}, devices="{cpu: 1}")
    killed, other = (project.start("run", "--join", "dataset.h5") for _ in range(2))
    try:
        while not any(project.run.glob("claims/*.done")) or not any(project.run.glob("blocks/*.h5")):
            time.sleep(0.05)
            assert killed.poll() is None or other.poll() is None or project.output.exists()
            if project.output.exists():
                break
        killed.send_signal(signal.SIGKILL)
        shutil.copy(project.run / "epochs" / "0001" / "plan.json", tmp_path / "plan.json")
        said, error = other.communicate(timeout=project.patience)
        assert other.returncode in (0, 75), said + error
        assert "complete" in project.hpcens("run", "--join", "dataset.h5")
    finally:
        project.end()
    assert "sound" in project.hpcens("verify", "dataset.predictions.h5")
    assert not (project.run / "blocks").exists()
    project.yaml("output: {path: alone.h5}", members={"linear": "Linear", "conv": "Conv"}, devices="{cpu: 1}")
    project.hpcens("run", "dataset.h5", "--plan", "plan.json")
    assert content(project.output) == content(tmp_path / "alone.h5")
