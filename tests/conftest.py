"""Fixtures: a small heterogeneous ensemble with its weights, a dataset, and a YAML, in a folder of the test's own."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from support.project import ENSEMBLE, MEMBERS, Project

from hpcens.specs import MemberSpec

TESTS = Path(__file__).parent
MARKS = {"runs": "mpi", "slurm": "slurm", "gpu": "gpu"}
MEMORY = Path("/dev/shm")
ROOM = 4 << 30


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config):
    """Keep the tests' folders in memory: thousands of fdatasync calls are what the suite would wait for.

    What must survive a crash of the machine is tested on a disk that loses what was not made durable (support.lossy).
    The folders are gone at the end: --basetemp=FOLDER keeps them.
    """
    if config.option.basetemp or hasattr(config, "workerinput") or not MEMORY.is_dir():
        return
    if shutil.disk_usage(MEMORY).free > ROOM:
        folder = tempfile.mkdtemp(prefix="hpcens-tests-", dir=MEMORY)
        config.option.basetemp = f"{folder}/tests"
        config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Mark each test by its folder; what starts neither MPI ranks nor a cluster is fast."""
    for item in items:
        item.add_marker(MARKS.get(item.path.relative_to(TESTS).parts[0], "fast"))


@pytest.fixture(scope="session")
def weights(tmp_path_factory):
    """Seeded weights, one safetensors file a member."""
    import torch
    from safetensors.torch import save_file

    sys.path.insert(0, str(ENSEMBLE))
    import nets

    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(7)
    for name, factory in MEMBERS.items():
        save_file(getattr(nets, factory)().state_dict(), folder / f"{name}.safetensors")
    return folder


@pytest.fixture(scope="session")
def cache(tmp_path_factory):
    """One profile book for all tests, whichever worker runs them: the members are the same."""
    folder = tmp_path_factory.getbasetemp()
    folder = (folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder) / "cache"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def cluster(tmp_path_factory):
    """A Slurm cluster of three nodes (2, 1 and 2 GPUs), as the environment its clients need."""
    script = TESTS.parent / "slurm" / "cluster"
    folder = tmp_path_factory.mktemp("cluster")
    try:
        made = subprocess.run([script, "up", folder, "nodes=3", "gpus=2,1,2"], capture_output=True, text=True)
        if made.returncode and not os.environ.get("CI"):
            pytest.skip(f"no Slurm here: {made.stderr.strip().splitlines()[-1]}")
        assert made.returncode == 0, made.stderr
        yield {"SLURM_CONF": made.stdout.strip().splitlines()[-1].partition("=")[2]}
    finally:
        subprocess.run([script, "down", folder], capture_output=True)


@pytest.fixture
def project(tmp_path, weights, cache):
    made = Project(tmp_path, weights, cache).data().yaml()
    yield made
    made.end()


@pytest.fixture
def one_thread():
    """Torch computes in one thread, as a device of one core does."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture
def member(weights):
    """One of the ensemble."""
    return MemberSpec(name="conv", factory="nets:Conv", weights=weights / "conv.safetensors")
