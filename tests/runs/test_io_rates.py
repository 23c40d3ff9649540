"""What rows pass besides the devices: where reading limits, a run on several nodes has several readers by itself."""

import json
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from safetensors.numpy import save_file

from hpcens.launch.local import mpiexec
from hpcens.profiling import ProfileBook
from hpcens.runs import RunDirectory, signatures
from hpcens.vocabulary import Link

NET = """
import torch

class Corner(torch.nn.Linear):
    def __init__(self):
        super().__init__(8, 3)

    def forward(self, x):
        return super().forward(x[:, 0, 0, :8])
"""
ROWS = 240


@pytest.fixture
def slow_to_read(project):
    """A member that looks at 8 values of the 8192 in a row, all of which have to be inflated."""
    draw = np.random.default_rng(1)
    with h5py.File(project.dataset, "w") as file:
        rows = draw.integers(0, 50, (ROWS, 2, 64, 64)).astype(np.float32)
        file.create_dataset("images", data=rows, chunks=(24, 2, 64, 64), compression="gzip")
    save_file({"weight": draw.random((3, 8), np.float32), "bias": np.zeros(3, np.float32)},
              project.folder / "corner.safetensors")  # fmt: skip
    (project.folder / "nets.py").write_text(NET)
    (project.folder / "hpcens.yaml").write_text(
        "members: [{name: corner, factory: 'nets:Corner', weights: corner.safetensors}]\n"
        "devices: {cpu: 1}\ntask: multiclass\nplan: {batch_sizes: [24], runtime: eager}\n"
    )
    cache = project.folder / "cache of its own"
    project.environment["HPCENS_CACHE"] = str(cache)
    project.hpcens("profile", "dataset.h5")
    (profile,) = (cache / "profiles").glob("*.json")
    kept = json.loads(profile.read_text())
    for batch in kept["batches"].values():  # what limits must not hang on what else the machine does
        batch |= {"rows_per_second": 1e9, "spread": 0.0, "core_share": 1.0}
    profile.write_text(json.dumps(kept))
    return project


def on_nodes(project, ranks, *arguments):
    """A run on pretend nodes of so many ranks; the plan, and how many ranks had which role."""
    command = [sys.executable, "-m", "hpcens", "run", "dataset.h5", *arguments]
    started = [*mpiexec()]
    for node, count in enumerate(ranks):
        started += [":"] * bool(node) + ["-n", str(count), "-env", "SLURMD_NODENAME", f"n{node}", *command]
    environment = {k: v for k, v in project.environment.items() if not k.startswith(("PMI", "SLURM"))}
    done = subprocess.run(
        started, cwd=project.folder, env=environment, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    epoch = RunDirectory(project.run).newest
    roles = [signature.role.split()[0] for signature in signatures(epoch)]
    return json.loads(epoch.plan.read_text()), {role: roles.count(role) for role in set(roles)}


def test_a_run_that_reading_limits_has_a_reader_a_node_and_the_same_bytes(slow_to_read):
    project = slow_to_read
    project.hpcens("run", "dataset.h5")
    alone = project.predictions()
    first = json.loads((project.run / "epochs/0001/plan.json").read_text())
    assert first["limit"].startswith("reading") and first["readers"] == 1
    (project.folder / "given.json").write_text(json.dumps(first))
    for ranks, readers in (((3, 2, 3), 3), ((3, 1, 2), 2), ((3, 1), 1)):
        project.output.unlink()
        subprocess.run(["rm", "-r", project.run], check=True)
        plan, roles = on_nodes(project, ranks, "--plan", "given.json")
        assert plan["readers"] == roles["reader"] == readers and plan["limit"].startswith("reading")
        assert len(plan["devices"]) == roles["device"] == len(ranks)
        assert project.predictions().tobytes() == alone.tobytes()


def test_what_a_run_found_its_link_to_pass_is_known_to_plans(slow_to_read):
    project = slow_to_read
    unknown = "what a reader can send is not measured"
    assert unknown in project.hpcens("plan", "dataset.h5")
    project.hpcens("run", "dataset.h5")
    plan = json.loads((project.run / "epochs/0001/plan.json").read_text())
    rates = plan["rates"]
    assert rates["link"] > 1e6 and 0 < rates["message_seconds"] < 1.0 and rates["sync_seconds"] > 0
    made = json.loads(project.hpcens("plan", "dataset.h5", "--json"))["rates"]
    assert (made["link"], made["message_seconds"]) == (rates["link"], rates["message_seconds"])
    assert unknown not in project.hpcens("plan", "dataset.h5")
    assert "link to the same node, cpu" in project.hpcens("profile", "--list")
    book = ProfileBook(Path(project.environment["HPCENS_CACHE"]) / "profiles")
    ((key, _),) = book.links()
    book.put_link(key, Link(32768.0 * 3, 1e-5))  # three rows a second
    subprocess.run(["rm", "-r", project.run, project.output], check=True)
    assert "limited by sending" not in project.hpcens("plan", "dataset.h5"), "its rows are read where they lie"
    given = json.loads(project.hpcens("plan", "dataset.h5", "--json"))
    assert given["copied"] == 0.0 and given["rates"]["link"] == 32768.0 * 3
