"""Passes under MPI: a run that is killed goes on with another number of devices, and every byte is the same."""

import json
import os
import signal

import h5py
from support.interruption import journalled, rank_of, some_are_durable, wait_for, write_held
from support.project import Project

DROPPING = """

class Dropping(Linear):
    def __init__(self):
        super().__init__()
        self.drop = nn.Dropout(0.3)

    def forward(self, x):
        return super().forward(self.drop(x))

HeldDropping = held(Dropping)
"""
EXTRA = "output: {datasets: [prediction, members, entropy, mutual_information]}"


def ensemble(folder, weights, cache, devices):
    """Two members, of which one is run in passes and may be held."""
    project = Project(folder, weights, cache)
    project.yaml(EXTRA, {"linear": "HeldDropping", "conv": "Conv"}, devices=f"{{cpu: {devices}}}")
    config = folder / "hpcens.yaml"
    config.write_text(config.read_text().replace("nets:HeldDropping", "nets:HeldDropping\n    passes: 4", 1))
    write_held(folder)
    (folder / "nets.py").write_text((folder / "nets.py").read_text() + DROPPING)
    return project


def content(project):
    with h5py.File(project.output) as file:
        return {name: file[name][()].tobytes() for name in file.attrs["outputs"]}


def test_a_killed_run_goes_on_with_other_devices_to_the_same_bytes(tmp_path, weights, cache):
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
    whole = ensemble(tmp_path / "whole", weights, cache, 2).data(400)
    whole.hpcens("plan", "dataset.h5", "-o", "plan.json")
    plan = json.loads((whole.folder / "plan.json").read_text())
    plan["numerics"]["segment_rows"] = 16
    plan |= {"window": 8, "read_ahead": 6}
    (whole.folder / "plan.json").write_text(json.dumps(plan))
    whole.hpcens("run", "dataset.h5", "--plan", "plan.json")
    wanted = content(whole)
    assert "pass_entropy/linear" in wanted

    killed = ensemble(tmp_path / "killed", weights, cache, 2).data(400)
    order = ("run", "dataset.h5", "--plan", str(whole.folder / "plan.json"))
    (killed.folder / "hold").write_text("40")
    process = killed.start(*order)
    wait_for(lambda: some_are_durable(killed), process)
    os.kill(rank_of(killed, "device")["pid"], signal.SIGKILL)
    process.communicate(timeout=60)
    assert process.returncode == 1 and not killed.output.exists()
    kept = len(journalled(killed)[-1].written())
    (killed.folder / "hold").unlink()
    config = killed.folder / "hpcens.yaml"
    config.write_text(config.read_text().replace("devices: {cpu: 2}", "devices: {cpu: 1}"))
    killed.hpcens(*order)
    assert 0 < kept < 25 and content(killed) == wanted
