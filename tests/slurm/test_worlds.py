"""Worlds on a real Slurm: one over its nodes, on GPUs, on whole nodes, and one that a script of one's own starts."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

pytestmark = pytest.mark.timeout(500)

LINEAR = {"linear": "Linear"}


def linear(project):
    """What the first member alone gives."""
    with h5py.File(project.output) as file:
        return file["members/linear"][:]


def test_a_world_over_nodes_gives_the_bytes_of_one_host(planned, local):
    planned.yaml(devices="{cpu: 2}")
    said = planned.hpcens("submit", "dataset.h5", "--plan", "plan.json", "--slurm", "nodes=3", "--wait")
    assert "is submitted; next: hpcens status" in said
    assert "complete: 800 rows" in said
    assert planned.predictions().tobytes() == local.predictions().tobytes()
    plan = json.loads((planned.run / "epochs" / "0001" / "plan.json").read_text())
    assert {device["name"] for device in plan["devices"]} == {f"n{i}/cpu{j}" for i in (1, 2, 3) for j in (0, 1)}
    assert planned.status()["state"] == "complete"
    # of each node and start a log, a heartbeat, its ranks and, from 5 s on, what they did; no file of a rank's own
    ranks = {path.name for path in (planned.run / "epochs" / "0001" / "ranks").iterdir()}
    always = {f"n{i}.{kind}" for i in (1, 2, 3) for kind in ("beat", "jsonl")}
    assert always <= ranks <= always | {f"n{i}.loads" for i in (1, 2, 3)}
    [submission] = (planned.run / "submitit").iterdir()
    job = next(submission.glob("*_submitted.pkl")).name.partition("_")[0]
    names = {path.name.removeprefix(f"{job}_") for path in submission.glob("[0-9]*")}
    logs = {f"{socket.gethostname().partition('.')[0]}_{i}.log" for i in (0, 1, 2)}
    assert names == {"submission.sh", "submitted.pkl", "script.log", *logs}
    assert "rank 0 (reader): verdict 0; next: " in planned.hpcens("logs", str(planned.run))
    assert "sound" in planned.hpcens("verify", "dataset.predictions.h5")
    assert "complete already" in planned.hpcens("submit", "dataset.h5", "--plan", "plan.json")


def test_gpus_that_the_login_node_lacks_are_asked_for_and_used(project, local):
    """A member that was not measured there is measured."""
    project.yaml(members=LINEAR, devices="{cuda: 1}")
    gpus = Path(__file__).parents[1] / "support" / "fake_gpus"
    setup = f"export PATH={gpus}:$PATH PYTHONPATH={gpus}:{Path(__file__).parents[2]}"
    project.hpcens("submit", "dataset.h5", "--slurm", "nodes=2", "--slurm", f"setup={setup}", "--wait")
    plan = json.loads((project.run / "epochs" / "0001" / "plan.json").read_text())
    assert [device["name"] for device in plan["devices"]] == ["n1/cuda0", "n2/cuda0"]
    assert np.allclose(project.predictions(), linear(local), atol=1e-5)


def test_devices_that_take_all_cores_of_a_node_leave_room_for_the_others(project, local):
    """Story: a reader and a reducer were asked for with as many cores as a device, which no node had left.

    The ranks run in the Python that the site names, and srun is told what the command line adds. One dies in MPI's
    begin, and the job starts them again.
    """
    project.yaml("bad_rows: fail", members=LINEAR, devices="{cpu: {count: 2, cores: 4}}")
    container, seen = project.folder / "bin" / "apptainer", project.folder / "seen"
    container.parent.mkdir()
    fails = '[ "$SLURM_PROCID$HPCENS_STARTED_AGAIN" = 1 ] && export MPIR_CVAR_CH4_NETMOD=none'
    said = f'echo "$SLURM_STEP_ID $ASKED $1 $2 $3 $4 $5" >> "{seen}"'
    container.write_text(f'#!/bin/sh\n{fails}\n{said}\nshift 6\nexec {sys.executable} "$@"\n')
    container.chmod(0o755)
    named = ["python=apptainer exec --nv --bind '/all data' hpcens.sif python3", "srun.export=ALL,ASKED=yes"]
    named.append(f"setup=export PATH={container.parent}:$PATH")
    options = [part for text in named for part in ("--slurm", text)]
    project.hpcens("submit", "dataset.h5", *options, "--wait")
    words = "yes exec --nv --bind /all data hpcens.sif"
    assert sorted(seen.read_text().splitlines()) == 4 * [f"0 {words}"] + 4 * [f"1 {words}"]
    said = project.hpcens("logs", str(project.run))
    assert "they are started again" in said and "before it could say who" in said
    plan = json.loads((project.run / "epochs" / "0001" / "plan.json").read_text())
    assert [device["cores"] for device in plan["devices"]] == [4, 4]
    assert np.allclose(project.predictions(), linear(local), atol=1e-5)


def sbatch(project):
    """Runs slurm/hpcens.sbatch to its end."""
    script = Path(__file__).parents[2] / "slurm" / "hpcens.sbatch"
    asks = ["--gpus-per-node=0", "--ntasks-per-node=3", "--time=5", "--parsable", "-o", "job.out"]
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    made = subprocess.run(
        ["sbatch", *asks, script, "dataset.h5", "--plan", "plan.json"],
        cwd=project.folder,
        env=project.environment | {"PATH": path},
        capture_output=True,
        text=True,
    )
    assert made.returncode == 0, made.stderr
    job = made.stdout.strip()
    said = project.wait_for(lambda: ended(project.ask("scontrol", "show", "job", job).stdout))
    return said, (project.folder / "job.out").read_text()


def ended(said):
    return said if any(f"JobState={state}" in said for state in ("COMPLETED", "FAILED", "TIMEOUT")) else ""


def test_a_script_of_ones_own(planned, local):
    """The verdict's code is the job's, and the output lies where the YAML says."""
    planned.yaml("output: {path: scores.h5}")
    job, said = sbatch(planned)
    assert "ExitCode=0:0" in job, said
    with h5py.File(planned.folder / "scores.h5") as file:
        assert file["prediction"][:].tobytes() == local.predictions().tobytes()
    planned.yaml("output: {path: others.h5}")
    with h5py.File(planned.dataset, "r+") as file:
        file["images"][3] = np.nan
    job, said = sbatch(planned)
    assert "ExitCode=65:0" in job, said
