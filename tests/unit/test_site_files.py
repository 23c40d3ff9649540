"""What sites find in the folder slurm: environments, a container, wheels, a copy on each node's disk."""

import os
import re
import subprocess

import pytest
import yaml
from support.project import ROOT

SLURM = ROOT / "slurm"
# names on conda-forge and in Spack of what PyPI names otherwise
CONDA = {"torch": "pytorch", "xxhash": "python-xxhash"}
PYPROJECT = (ROOT / "pyproject.toml").read_text()


def dependencies():
    """What the package needs, name → lowest version."""
    [listed] = re.findall(r"^dependencies = \[\n(.*?)^\]", PYPROJECT, re.MULTILINE | re.DOTALL)
    return dict(re.findall(r'"([\w-]+)>=([\d.]+)"', listed))


def extras(text):
    return set(re.findall(r"\w+", text))


def test_environments_hold_what_the_package_needs_in_the_versions_it_needs():
    conda = yaml.safe_load((SLURM / "environment.yaml").read_text())["dependencies"]
    assert {f"{CONDA.get(name, name)}>={low}" for name, low in dependencies().items()} <= set(conda)
    specs = yaml.safe_load((SLURM / "spack.yaml").read_text())["spack"]["specs"]
    spack = [re.match(r"py-([\w-]+)@?([\d.]*)", spec) for spec in specs]
    named = {match[1]: match[2] for match in spack if match}
    assert {"torch", "numpy", "scipy", "h5py", "mpi4py"} <= named.keys()
    for name in named.keys() & dependencies().keys():
        assert dependencies()[name].startswith(named[name].rstrip(":")), name


def test_the_container_takes_files_and_extras_that_there_are():
    text = (SLURM / "hpcens.def").read_text()
    files = re.findall(r"^    (\S+) /opt/source/$", text, re.MULTILINE)
    assert len(files) == 4 and all((ROOT / name).exists() for name in files)
    [named] = re.findall(r"/opt/source\[(.*?)\]", text)
    assert all(re.search(rf"^{extra} = \[", PYPROJECT, re.MULTILINE) for extra in extras(named))


def call(script, *arguments, code=0, **variables):
    made = subprocess.run(
        [SLURM / script, *arguments], env=os.environ | variables, capture_output=True, text=True, timeout=120
    )
    assert made.returncode == code, made.stdout + made.stderr
    return made.stdout + made.stderr


@pytest.fixture
def archive(tmp_path):
    (tmp_path / "env" / "bin").mkdir(parents=True)
    (tmp_path / "env" / "bin" / "python").write_text("#!/bin/sh\necho here\n")
    call("node_local", "pack", tmp_path / "env", tmp_path / "env.tar")
    return tmp_path / "env.tar"


def test_an_environment_is_unpacked_once_on_every_node_and_never_under_anothers_feet(archive, tmp_path):
    srun = tmp_path / "bin" / "srun"
    srun.parent.mkdir()
    srun.write_text(
        f'#!/bin/sh\necho "$*" >> {tmp_path}/asked\nwhile [ "${{1#-}}" != "$1" ]; do shift; done\n'
        'SLURM_STEP_ID=0 "$@" && SLURM_STEP_ID=0 "$@"\n'  # two nodes that share a disk
    )
    srun.chmod(0o755)
    job = {"SLURM_JOB_ID": "7", "SLURM_NNODES": "2", "PATH": f"{srun.parent}:{os.environ['PATH']}"}
    local = tmp_path / "disk" / "mine"
    call("node_local", "unpack", archive, local, **job)
    assert (tmp_path / "asked").read_text().startswith("--nodes=2 --ntasks=2 --ntasks-per-node=1 --overlap --mpi=none ")
    assert (local / "bin" / "python").read_text().endswith("echo here\n")
    assert local.stat().st_mode & 0o077 == 0, "its content is code that this user runs"
    assert [path.name for path in local.parent.iterdir()] == ["mine"]
    (local / "kept").touch()
    call("node_local", "unpack", archive, local)
    assert (local / "kept").exists()
    os.utime(archive, (1, 1))
    assert "is of another archive: name another folder" in call("node_local", "unpack", archive, local, code=1)
    if os.geteuid() == 0:
        os.chown(local, 12345, 12345)
        assert "is another user's" in call("node_local", "unpack", archive, local, code=1)


def test_wheels_that_are_not_those_that_were_fetched_are_not_installed(tmp_path):
    (tmp_path / "a.whl").write_bytes(b"one")
    (tmp_path / "SHA256SUMS").write_text(f"{'0' * 64}  ./a.whl\n")
    assert "a.whl: FAILED" in call("wheelhouse", "install", tmp_path, tmp_path / "env", code=1)
    assert not (tmp_path / "env").exists()
    for script in ("wheelhouse", "node_local"):
        assert f"slurm/{script} " in call(script, code=2)
