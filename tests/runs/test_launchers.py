"""`hpcens run` under a launcher that is not Slurm's: mpiexec with a hostfile, over two nodes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from hpcens.launch.local import mpiexec

TWO_NODES = Path(__file__).parents[1] / "support" / "two_nodes"


def may_have_nodes():
    """Whether nodes can be made of namespaces here."""
    tried = subprocess.run(["unshare", "--net", "--uts", "--mount", "ip", "link"], capture_output=True, check=False)
    return tried.returncode == 0


def test_every_process_of_a_hostfile_is_a_rank_and_the_bytes_are_those_of_one_host(project):
    if not may_have_nodes():
        pytest.skip("nodes of namespaces need root")
    project.hpcens("run", "dataset.h5")
    here = project.predictions().tobytes()
    project.output.unlink()
    plan = project.folder / "plan.json"
    plan.write_text((project.run / "epochs" / "0001" / "plan.json").read_text())
    nodes = project.folder / "nodes"
    nodes.mkdir()
    launcher = [*mpiexec(), "-localhost", "10.99.7.254", "-launcher", "ssh", "-launcher-exec", str(nodes / "ssh")]
    launcher += ["-f", str(nodes / "hosts"), "-n", "8"]
    ranks = [sys.executable, "-m", "hpcens", "run", "dataset.h5", "--plan", "plan.json"]
    made = subprocess.run(
        [TWO_NODES, nodes, *launcher, *ranks],
        cwd=project.folder,
        env=project.environment | {"PYTHONPATH": str(TWO_NODES.parents[2])},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert made.returncode == 0, made.stdout + made.stderr
    assert project.predictions().tobytes() == here
    plan = json.loads((project.run / "epochs" / "0002" / "plan.json").read_text())
    assert [device["name"] for device in plan["devices"]] == [f"alpha{n}/cpu{i}" for n in (1, 2) for i in (0, 1)]
    project.hpcens("run", "--code", "dataset.h5")
