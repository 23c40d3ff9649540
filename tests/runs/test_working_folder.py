"""What lies in the working folder is not imported in the place of a library, whichever way a process begins."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from support.project import ROOT, Project

from hpcens.config.job import job_from
from hpcens.launch.slurm import sbatch_text
from hpcens.runs import RunDirectory
from hpcens.specs import SlurmSpec

# of Python, of hpcens' own libraries, and of those that they look for
PLANTED = [
    "argparse",
    "cloudpickle",
    "ctypes",
    "h5py",
    "hdf5plugin",
    "isal",
    "json",
    "logging",
    "mpi4py",
    "multiprocessing",
    "numpy",
    "onnx",
    "openvino",
    "pickle",
    "pydantic",
    "random",
    "rich",
    "safetensors",
    "scipy",
    "secrets",
    "shlex",
    "socket",
    "submitit",
    "subprocess",
    "tempfile",
    "threading",
    "torch",
    "typing",
    "uuid",
    "xxhash",
    "yaml",
]


@pytest.fixture(params=["", ":", ".:"], ids=["unset", "empty entry", "dot"])
def planted(request, tmp_path, weights, cache):
    """A project in one folder; the working folder is another, in which somebody else has left modules."""
    home, hostile = tmp_path / "home", tmp_path / "hostile"
    home.mkdir()
    hostile.mkdir()
    made = Project(home, weights, cache).data(64).yaml("output: {datasets: [prediction, members]}", devices="{cpu: 1}")
    for name in PLANTED:
        text = f"open({str(tmp_path / 'PWNED')!r}, 'a').write('{name} ')\nraise ImportError('planted {name}')\n"
        (hostile / f"{name}.py").write_text(text)
    made.folder = hostile
    path = f"{request.param}{ROOT}"
    made.environment = {**made.environment, "PYTHONPATH": path, "TMPDIR": str(tmp_path)}
    made.environment.pop("PYTHONSAFEPATH", None)
    yield made
    made.end()
    assert not (tmp_path / "PWNED").exists(), (tmp_path / "PWNED").read_text()


def test_no_verb_imports_what_was_planted(planted):
    options = (planted.dataset, "-c", planted.dataset.with_name("hpcens.yaml"))
    result = planted.folder / "dataset.predictions.h5"
    assert "profiled" in planted.hpcens("profile", *options)
    assert "rows/s" in planted.hpcens("plan", *options)
    assert "complete" in planted.hpcens("run", *options)
    assert "sound" in planted.hpcens("verify", result)
    assert "complete" in planted.hpcens("combine", result, "--rule", "mean", "-o", planted.folder / "other.h5")
    assert "rows" in planted.hpcens("export", result, "-o", planted.folder / "out.npy", "--datasets", "prediction")
    assert "complete" in planted.hpcens("status", result)
    assert "complete" in planted.hpcens("submit", "--local", *options, "--limit", "40")


def shims(folder, **scripts):
    """Put commands on the path that stand for others."""
    folder.mkdir()
    for name, script in scripts.items():
        (folder / name).write_text(f"#!/bin/bash\n{script}\n")
        (folder / name).chmod(0o755)
    return folder


def test_no_job_imports_what_was_planted(planted, tmp_path, monkeypatch):
    """The text of a submission, and the script for those who keep their own; srun is played."""
    python = shlex.quote(sys.executable)
    shims(
        tmp_path / "bin",
        srun='printf "path=%s safe=%s\\n" "$PYTHONPATH" "$PYTHONSAFEPATH"\n'
        'while [[ $# -gt 0 && $1 != sh ]]; do shift; done\n"$@"',
        hpcens=f'[[ $2 == --code ]] || exec {python} -m hpcens status "$2"\nexec {python} -m hpcens "$@"',
    )
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    config = planted.dataset.with_name("hpcens.yaml")
    monkeypatch.chdir(config.parent)
    job = job_from([str(planted.dataset)], config=config)
    RunDirectory.of(job.output).own("submitit", "submitit/ID")
    script = tmp_path / "job.sh"
    script.write_text(sbatch_text(job, SlurmSpec()))
    environment = {**planted.environment, "PATH": os.environ["PATH"]}
    for command in (["bash", script], ["bash", ROOT / "slurm/hpcens.sbatch", planted.dataset, "-c", config]):
        done = subprocess.run(command, cwd=planted.folder, env=environment, capture_output=True, text=True)
        assert f"path={ROOT} safe=1" in done.stdout
        # there is no job around the one, and no start to tell of for the other
        assert "SLURM_JOB_ID" in done.stderr or "nothing was started" in done.stderr, done.stderr


def test_code_of_the_user_is_imported_from_the_folder_of_its_yaml_though_it_is_the_working_folder(project):
    assert "complete" in project.yaml(devices="{cpu: 1}").hpcens("run", "dataset.h5")


def test_an_entry_takes_the_place_of_python(tmp_path):
    (tmp_path / "there.py").write_text("import sys; print(sys.argv[1:], __name__)")
    entry = str(Path(ROOT, "hpcens", "entry.py"))
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}::{ROOT}"}
    command = [sys.executable, entry, "-u", "-m", "there", "-m", "a"]
    done = subprocess.run(command, cwd="/", env=environment, capture_output=True, text=True)
    assert done.stdout == "['-m', 'a'] __main__\n", done.stderr
    # the folder of a module that is named is left out where it is the working folder
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert "No module named there" in done.stderr
