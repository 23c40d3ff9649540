"""Features under MPI: devices that share them give, member by member, what a network gives that computes its own."""

import json
import runpy
import shutil
from pathlib import Path

import h5py
import pytest
import torch
import yaml

ROOT = Path(__file__).parents[2]


@pytest.mark.usefixtures("one_thread")
def test_two_devices_share_the_features_of_the_example(project):
    ani = runpy.run_path(str(ROOT / "jobs" / "ani.py"))
    shutil.copy(ROOT / "jobs" / "ani.py", project.folder / "ani.py")
    ani["write_molecules"](project.folder / "dataset.h5", 75)
    tree = yaml.safe_load((ROOT / "configs" / "features.yaml").read_text())
    tree |= {"plan": {"runtime": "eager", "batch_sizes": [16]}, "devices": {"cpu": 2}}
    tree["members"] = tree["members"][:2]
    (project.folder / "hpcens.yaml").write_text(json.dumps(tree))
    project.hpcens("run", "dataset.h5")
    with h5py.File(project.folder / "dataset.h5") as file:
        species = torch.from_numpy(file["species"][()]).long()
        positions = torch.from_numpy(file["positions"][()])
    with h5py.File(project.output) as file, torch.inference_mode():
        for seed in range(2):
            whole = ani["Whole"](seed).eval()
            pieces = zip(species.split(16), positions.split(16), strict=True)
            alone = torch.cat([whole(kinds, places) for kinds, places in pieces]).numpy()
            assert file[f"members/ani{seed}"][()].tobytes() == alone.tobytes()
