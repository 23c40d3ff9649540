"""Runs on a real Slurm: one MPI world over its nodes, drained, requeued, cancelled, and told about in words."""

import json
import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
from support.interruption import rank_of
from support.project import ENSEMBLE, MEMBERS, Project

from hpcens.result.journal import Kind, read_journal
from hpcens.transports.mpich import fnv1a, shared_memory_of

pytestmark = pytest.mark.timeout(500)

SITE = "slurm: {time: 5}\n"
HELD = """
import time
from pathlib import Path
from nets_fast import *

class HeldLinear(Linear):
    calls = 0

    def forward(self, x):
        HeldLinear.calls += 1
        while HeldLinear.calls > 3 and Path(__file__).with_name("hold").exists():
            time.sleep(0.005)
        return super().forward(x)
"""


class SlurmProject(Project):
    """A project on the cluster. A busy machine starts a job's ranks late: a command may take long to say so."""

    patience = 400

    def on(self, cluster):
        self.environment = self.environment | cluster
        (self.folder / "hpcens.site.yaml").write_text(SITE)
        return self

    def ask(self, *command):
        return subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=60)

    def wait_for(self, condition, seconds=200):
        deadline = time.monotonic() + seconds
        while not (found := condition()):
            if time.monotonic() > deadline:
                raise AssertionError(self.hpcens("status", str(self.run)) + self.hpcens("logs", str(self.run)))
            time.sleep(0.05)
        return found

    def verdict(self, number):
        path = self.run / "epochs" / f"{number:04d}" / "verdict.json"
        return json.loads(path.read_text()) if path.exists() else None

    def status(self):
        return json.loads(self.hpcens("status", str(self.run), "--json"))


@pytest.fixture(scope="module")
def local(tmp_path_factory, weights, cache):
    """The same rows scored on this host, in 50 segments; its plan.json is there for others to use."""
    project = Project(tmp_path_factory.mktemp("local"), weights, cache).data(800).yaml()
    project.hpcens("plan", "dataset.h5", "-o", "plan.json")
    plan = json.loads((project.folder / "plan.json").read_text())
    plan["numerics"]["segment_rows"] = 16
    plan |= {"window": 8, "read_ahead": 6}
    (project.folder / "plan.json").write_text(json.dumps(plan))
    project.hpcens("run", "dataset.h5", "--plan", "plan.json")
    return project


@pytest.fixture
def project(tmp_path, weights, cache, cluster, local):
    made = SlurmProject(tmp_path, weights, cache).data(800).yaml().on(cluster)
    (tmp_path / "plan.json").write_text((local.folder / "plan.json").read_text())
    yield made
    made.end()
    subprocess.run(["scancel", "--user", str(os.getuid())], env=made.environment, check=False)


@pytest.fixture
def held(project):
    """A member that stops after some segments while the file `hold` exists."""
    project.yaml(members=MEMBERS | {"linear": "HeldLinear"})
    (project.folder / "nets_fast.py").write_text((ENSEMBLE / "nets.py").read_text())
    (project.folder / "nets.py").write_text(HELD)
    project.hpcens("profile", "dataset.h5")
    (project.folder / "hold").touch()
    return project


def leave_memory_behind(job):
    """What a killed start leaves: MPI_Init of the job's next start hangs or crashes on it."""
    for node in (0, 1):
        Path(f"/dev/shm/mpich_shm_{fnv1a(f'{job}.0'):x}_{node}").write_bytes(b"\xff" * 4233472)


def some_are_durable(project):
    content = read_journal(project.run / "epochs" / "0001" / "journal")
    return content is not None and len(content.written()) >= 2


def test_a_world_over_nodes_gives_the_bytes_of_one_host(project, local):
    said = project.hpcens("submit", "dataset.h5", "--plan", "plan.json", "--slurm", "nodes=3", "--wait")
    assert "is submitted; next: hpcens status" in said
    assert "complete: 800 rows" in said
    assert project.predictions().tobytes() == local.predictions().tobytes()
    plan = json.loads((project.run / "epochs" / "0001" / "plan.json").read_text())
    assert {device["name"] for device in plan["devices"]} == {f"n{i}/cpu{j}" for i in (1, 2, 3) for j in (0, 1)}
    assert project.status()["state"] == "complete"
    # of each node and start a log, a heartbeat and its ranks; no file of a rank's own
    ranks = {path.name for path in (project.run / "epochs" / "0001" / "ranks").iterdir()}
    assert ranks == {f"n{i}.{kind}" for i in (1, 2, 3) for kind in ("beat", "jsonl")}
    [submission] = (project.run / "submitit").iterdir()
    job = next(submission.glob("*_submitted.pkl")).name.partition("_")[0]
    names = {path.name.removeprefix(f"{job}_") for path in submission.glob("[0-9]*")}
    logs = {f"{socket.gethostname().partition('.')[0]}_{i}.log" for i in (0, 1, 2)}
    assert names == {"submission.sh", "submitted.pkl", "script.log", *logs}
    assert "rank 0 (reader): verdict 0; next: " in project.hpcens("logs", str(project.run))
    assert "sound" in project.hpcens("verify", "dataset.predictions.h5")
    assert "complete already" in project.hpcens("submit", "dataset.h5", "--plan", "plan.json")


def test_gpus_that_the_login_node_lacks_are_asked_for_and_used(project, local):
    project.yaml(devices="{cuda: 1}")
    gpus = Path(__file__).parents[1] / "support" / "fake_gpus"
    setup = f"export PATH={gpus}:$PATH PYTHONPATH={gpus}:{Path(__file__).parents[2]}"
    project.hpcens("submit", "dataset.h5", "--slurm", "nodes=2", "--slurm", f"setup={setup}", "--wait")
    plan = json.loads((project.run / "epochs" / "0001" / "plan.json").read_text())
    assert [device["name"] for device in plan["devices"]] == ["n1/cuda0", "n2/cuda0"]
    assert np.allclose(project.predictions(), local.predictions(), atol=1e-5)


def test_devices_that_take_all_cores_of_a_node_leave_room_for_the_others(project, local):
    """Story: a reader and a reducer were asked for with as many cores as a device, which no node had left.

    The ranks run in the Python that the site names, and srun is told what the command line adds. One dies in MPI's
    begin, and the job starts them again.
    """
    project.yaml("bad_rows: fail", devices="{cpu: {count: 2, cores: 4}}")
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
    assert np.allclose(project.predictions(), local.predictions(), atol=1e-5)


def test_warned_of_the_limit_it_drains_requeues_itself_and_goes_on(held, local):
    job = held.hpcens("submit", "dataset.h5", "--plan", "plan.json", "--parsable").strip()
    held.wait_for(lambda: some_are_durable(held))
    assert held.status()["state"] == "running"
    assert held.ask("scancel", "--signal=USR2", job).returncode == 0
    held.wait_for(lambda: '"draining"' in (held.run / "epochs" / "0001" / "events.jsonl").read_text())
    (held.folder / "hold").unlink()
    first = held.wait_for(lambda: held.verdict(1))
    assert first["code"] == 75
    assert "time limit" in first["reason"]
    assert "continues by itself (requeue 1 of 10)" in first["remedy"]
    leave_memory_behind(job)
    last = held.wait_for(lambda: held.verdict(2))
    assert last["code"] == 0, last
    assert held.predictions().tobytes() == local.predictions().tobytes()
    kept = len(read_journal(held.run / "epochs" / "0001" / "journal").written())
    records = read_journal(held.run / "epochs" / "0002" / "journal").records
    assert next(record.segment for record in records if record.kind == Kind.INHERITED) == kept > 0
    found = held.status()
    assert (found["state"], len(found["requeues"])) == ("complete", 1)
    assert held.hpcens("logs", str(held.run)).count(": verdict ") == 2, "the log of the first start is kept"
    assert list(shared_memory_of(job, "0")) == []


def test_cancel_drains_and_does_not_requeue(held):
    job = held.hpcens("submit", "dataset.h5", "--plan", "plan.json", "--parsable").strip()
    held.wait_for(lambda: some_are_durable(held))
    assert "draining" in held.hpcens("cancel", str(held.run))
    held.wait_for(lambda: '"draining"' in (held.run / "epochs" / "0001" / "events.jsonl").read_text())
    (held.folder / "hold").unlink()
    verdict = held.wait_for(lambda: held.verdict(1))
    assert verdict["code"] == 75
    assert verdict["reason"].startswith("cancelled")
    assert held.status()["state"] == "resumable"
    held.wait_for(
        lambda: "Restarts=0" in (said := held.ask("scontrol", "show", "job", job).stdout) and "FAILED" in said
    )
    [working] = held.run.glob("working-*.h5")
    with h5py.File(working) as file:
        assert file["prediction"].shape[0] == 800


def test_a_killed_rank_is_named_and_the_same_command_goes_on(held, local):
    held.hpcens("submit", "dataset.h5", "--plan", "plan.json", "--slurm", "nodes=2")
    held.wait_for(lambda: some_are_durable(held))
    victim = rank_of(held, "device n2")
    os.kill(victim["pid"], 9)
    verdict = held.wait_for(lambda: held.verdict(1))
    assert f"rank {victim['rank']} ({victim['role']})" in verdict["reason"]
    assert "on n2" in verdict["reason"]
    assert held.status()["state"] == "failed"
    (held.folder / "hold").unlink()
    held.wait_for(lambda: not held.ask("squeue", "-h").stdout.strip())
    held.hpcens("submit", "dataset.h5", "--plan", "plan.json", "--wait")
    assert held.predictions().tobytes() == local.predictions().tobytes()


def test_ranks_that_find_themselves_alone_say_so_with_the_remedy(project):
    project.hpcens("submit", "dataset.h5", "--slurm", "mpi=none")
    verdict = project.wait_for(lambda: project.verdict(1))
    assert verdict["code"] == 2
    assert "srun started 4 ranks, but each finds itself alone" in verdict["reason"]
    assert "srun --mpi=pmi2" in verdict["remedy"]


def test_a_rank_that_does_not_come_is_named_by_its_node(project):
    """A warning that comes before Python can hear it, by which it would end, changes nothing."""
    (project.folder / "late").mkdir()
    late = "import os, time\nif os.environ.get('SLURM_PROCID') == '7':\n    time.sleep(40)\n"
    (project.folder / "late" / "sitecustomize.py").write_text(late)
    setup = f"setup=export PYTHONPATH={project.folder}/late:{Path(__file__).parents[2]}"
    options = [part for text in ("nodes=2", "start_seconds=6", setup) for part in ("--slurm", text)]
    job = project.hpcens("submit", "dataset.h5", *options, "--parsable").strip()
    project.wait_for(lambda: list(project.run.glob("submitit/*/arrived/*/n*")))
    assert project.ask("scancel", "--signal=USR2", job).returncode == 0
    project.wait_for(lambda: project.ask("squeue", "-h").stdout.strip() == "")
    found = project.status()
    assert found["state"] == "failed"
    assert re.search(r"7 of 8 ranks are here; missing: n\d \(3 of 4\), after 6 s", found["reason"])
    assert "wait longer: start_seconds=" in found["remedy"]


def test_a_queued_job_is_told_and_cancelled_without_a_controller_that_answers_too(project, tmp_path):
    assert "nope" in project.hpcens("submit", "dataset.h5", "--slurm", "partition=nope", code=2)
    assert (project.status()["state"], project.status()["code"]) == ("not submitted", 2)
    project.hpcens("submit", "dataset.h5", "--slurm", "begin=now+1hour", "--resubmit", "1")
    found = project.status()
    assert (found["state"], found["epoch"], found["of"], found["code"]) == ("queued", 0, 800, None)
    assert 3000 < found["starts_in_seconds"] < 3700 and found["waiting_seconds"] < 300
    assert project.hpcens("list").splitlines()[1].startswith("queued ")
    again = project.hpcens("submit", "dataset.h5", code=2)
    assert "is working on" in again
    deaf = tmp_path / "deaf.conf"
    deaf.write_text("ClusterName=none\nSlurmctldHost=localhost(127.0.0.1)\nSlurmctldPort=1\n")
    (project.run / "controller.json").unlink()
    answering, project.environment = project.environment, project.environment | {"SLURM_CONF": str(deaf)}
    assert project.status()["state"] == "unknown"
    project.environment = answering
    assert "out of the queue" in project.hpcens("cancel", str(project.run))
    assert "resumable: " in project.hpcens("wait", str(project.run), code=75)
    found = project.status()
    assert found["state"] == "resumable"
    assert "cancelled" in found["reason"]


def sbatch(project):
    """Runs slurm/hpcens.sbatch to its end."""
    script = Path(__file__).parents[2] / "slurm" / "hpcens.sbatch"
    asks = ["--gpus-per-node=0", "--ntasks-per-node=4", "--time=5", "--parsable", "-o", "job.out"]
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


def test_a_script_of_ones_own(project, local):
    """The verdict's code is the job's, and the output lies where the YAML says."""
    project.yaml("output: {path: scores.h5}")
    job, said = sbatch(project)
    assert "ExitCode=0:0" in job, said
    with h5py.File(project.folder / "scores.h5") as file:
        assert file["prediction"][:].tobytes() == local.predictions().tobytes()
    project.yaml("output: {path: others.h5}")
    with h5py.File(project.dataset, "r+") as file:
        file["images"][3] = np.nan
    job, said = sbatch(project)
    assert "ExitCode=65:0" in job, said
