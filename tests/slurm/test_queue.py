"""Jobs of a real Slurm that wait in the queue, or of which no world comes."""

import re
from pathlib import Path

import pytest

pytestmark = pytest.mark.timeout(500)

# Of six ranks the last never comes; the clock of the first begins once the others are here, so that none is late.
LATE = """
import os, time
from pathlib import Path

folder, task = Path("FOLDER"), os.environ.get("SLURM_PROCID")
if task == "0":
    import mpi4py
    mpi4py.rc.initialize = mpi4py.rc.finalize = False
    from mpi4py import MPI
    here = lambda: [line for path in folder.glob("*.run/submitit/*/arrived/*/n*") for line in path.read_text().split()]
    while len(here()) < 2 * 4 or not (folder / "warned").exists():
        time.sleep(0.05)
while task == "5":
    time.sleep(1)
"""


def test_ranks_that_find_themselves_alone_say_so_with_the_remedy(project):
    project.hpcens("submit", "dataset.h5", "--slurm", "mpi=none")
    verdict = project.wait_for(lambda: project.verdict(1))
    assert verdict["code"] == 2
    assert "srun started 3 ranks, but each finds itself alone" in verdict["reason"]
    assert "srun --mpi=pmi2" in verdict["remedy"]


def test_a_rank_that_does_not_come_is_named_by_its_node(project):
    """A warning that comes before Python can hear it, by which it would end, changes nothing."""
    (project.folder / "late").mkdir()
    (project.folder / "late" / "sitecustomize.py").write_text(LATE.replace("FOLDER", str(project.folder)))
    setup = f"setup=export PYTHONPATH={project.folder}/late:{Path(__file__).parents[2]}"
    options = [part for text in ("nodes=2", "start_seconds=3", setup) for part in ("--slurm", text)]
    job = project.hpcens("submit", "dataset.h5", *options, "--parsable").strip()
    project.wait_for(lambda: list(project.run.glob("submitit/*/arrived/*/n*")))
    assert project.ask("scancel", "--signal=USR2", job).returncode == 0
    (project.folder / "warned").touch()
    project.wait_for(lambda: project.ask("squeue", "-h").stdout.strip() == "")
    found = project.status()
    assert found["state"] == "failed"
    assert re.search(r"5 of 6 ranks are here; missing: n\d \(2 of 3\), after 3 s", found["reason"])
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
    deaf.write_text(
        "ClusterName=none\nSlurmctldHost=localhost(127.0.0.1)\nSlurmctldPort=1\nSlurmctldTimeout=10\nMessageTimeout=1\n"
    )
    (project.run / "controller.json").unlink()
    answering, project.environment = project.environment, project.environment | {"SLURM_CONF": str(deaf)}
    assert project.status()["state"] == "unknown"
    project.environment = answering
    assert "out of the queue" in project.hpcens("cancel", str(project.run))
    assert "resumable: " in project.hpcens("wait", str(project.run), code=75)
    found = project.status()
    assert found["state"] == "resumable"
    assert "cancelled" in found["reason"]
