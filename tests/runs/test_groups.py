"""Whole runs in which equal members are one batched network."""

import json

import h5py
import numpy as np
import torch
from support.groups import equal_members
from support.member_files import load, outputs


def test_equal_members_as_one_and_one_that_is_added(project, tmp_path):
    """Each gives what it gives by itself; a member that is added runs by itself, and changes nothing of theirs."""
    project.environment["HPCENS_CACHE"] = str(tmp_path / "cache")
    members = equal_members(project.folder, "nets:Conv", count=4)
    project.data(rows=150)

    def write(count, runtime):
        output = "output: {path: out.h5, datasets: [prediction, members]}"
        project.yaml(output, {}, f"[16], runtime: {runtime}")
        made = [f"  - {{name: {m.name}, factory: nets:Conv, weights: {m.weights.path}}}" for m in members[:count]]
        text = (project.folder / "hpcens.yaml").read_text().replace("members:", "\n".join(["members:", *made]))
        (project.folder / "hpcens.yaml").write_text(text)

    def stored():
        with h5py.File(project.folder / "out.h5") as file:
            return {name: of[:] for name, of in file["members"].items()}, json.loads(file.attrs["fingerprint"])

    write(3, "stacked")
    said = project.hpcens("run", "dataset.h5")
    before, tree = stored()
    with h5py.File(project.dataset) as file:
        x = torch.from_numpy(file["images"][:])
    for member in members[:3]:
        wanted = outputs(load(member), x).numpy()
        assert np.abs(before[member.name] - wanted).max() < 1e-6
    numerics = {name: of["numerics"] for name, of in tree["members"].items()}
    whole = {"batch": 16, "runtime": "stacked", "precision": "float32", "group": "m0 … m2 (3)"}
    assert numerics == dict.fromkeys(("m0", "m1", "m2"), whole) and tree["format"] == 2
    report = json.loads(next((project.folder / "out.run").glob("epochs/*/report.json")).read_text())
    assert {instance["group"] for instance in report["instances"]} == {"m0 … m2 (3)"}
    assert "m0 … m2 (3)  batch 16" in project.hpcens("status", "-v", "out.run"), "one instance of three members"
    write(4, "eager")
    said = project.hpcens("run", "dataset.h5")
    assert "150 rows scored by m3, added to what was stored" in said
    after, tree = stored()
    assert all(after[name].tobytes() == values.tobytes() for name, values in before.items())
    assert np.abs(after["m3"] - outputs(load(members[3]), x).numpy()).max() < 1e-6
    assert tree["members"]["m0"]["numerics"] == whole
    assert tree["members"]["m3"]["numerics"] == {"batch": 16, "runtime": "eager", "precision": "float32"}
