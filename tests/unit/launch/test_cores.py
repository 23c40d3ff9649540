"""Cores asked for where GPUs compute: enough for a reader's threads, and no more than the GPUs' share of a node."""

import pytest

from hpcens.launch import cores as module
from hpcens.launch.slurm import sbatch_text
from hpcens.scheduler.nodes import parse_nodes
from hpcens.specs import CpuSpec, CudaSpec, DevicesSpec, Job, RunSpec, SlurmSpec

# GPUs asked for, the nodes as sinfo lists them, what is asked of Slurm; cores of each rank
ASKED = [
    (4, "gpu|4|idle|64|515000|gpu:a100:4", {}, 2),  # six ranks, and four threads
    (1, "gpu|4|idle|64|515000|gpu:a100:4", {}, 3),
    (4, "gpu|4|idle|8|515000|gpu:a100:4", {}, None),  # a node has no more
    (1, "gpu|4|idle|32|515000|gpu:a100:4", {}, 2),  # eight cores a GPU
    (4, "gpu|4|idle|64|515000|gpu:a100:4\nold|4|idle|8|515000|gpu:k80:4", {}, None),  # it may get either
    (4, "gpu|4|idle|64|515000|gpu:a100:4\nold|4|idle|8|515000|gpu:k80:4", {"partition": "gpu"}, 2),
    (4, "cpu|4|idle|64|515000|(null)", {}, None),
    (4, "", {}, None),  # no Slurm answers
    (4, "gpu|4|idle|64|515000|gpu:a100:4", {"cpus_per_task": 5}, 5),
]


@pytest.fixture
def nodes(tmp_path, monkeypatch):
    """Lays down what sinfo says; of srun, submitit only looks whether there is one."""
    (tmp_path / "srun").write_text("#!/bin/sh\n")
    (tmp_path / "srun").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    return lambda text: monkeypatch.setattr(module, "node_groups", lambda: parse_nodes(text))


def job(tmp_path, **devices):
    return Job(datasets=(), output=tmp_path / "out.h5", spec=RunSpec(members=(), devices=DevicesSpec(**devices)))


@pytest.mark.parametrize(("gpus", "listed", "settings", "each"), ASKED)
def test_a_reader_has_cores_for_its_threads(gpus, listed, settings, each, nodes, tmp_path, capsys):
    nodes(listed)
    text = sbatch_text(job(tmp_path, cuda=CudaSpec(count=gpus)), SlurmSpec(**settings))
    assert ("--cpus-per-task=" in text) == (each is not None)
    if each is not None:
        assert f"#SBATCH --cpus-per-task={each}\n" in text and f" --cpus-per-task={each} " in text
    computed = each is not None and "cpus_per_task" not in settings
    assert (" --cpu-bind=none " in text) == computed, "all of them share what the job has"
    assert (f"{(gpus + 2) * (each or 0)} cores of a node" in capsys.readouterr().err) == computed


def test_how_ranks_are_bound_may_be_told(nodes, tmp_path):
    nodes(ASKED[0][1])
    text = sbatch_text(job(tmp_path, cuda=CudaSpec(count=4)), SlurmSpec(srun={"cpu-bind": "cores"}))
    assert "--cpu-bind=cores" in text and "--cpu-bind=none" not in text


def test_beside_cpu_devices_cores_are_theirs(nodes, tmp_path):
    nodes(ASKED[0][1])
    mixed = job(tmp_path, cuda=CudaSpec(count=4), cpu=CpuSpec(count=2))
    assert module.cores_per_rank(mixed, SlurmSpec(), 8) is None
