"""A submission that Slurm refuses, and following one whose job Slurm puts back; no Slurm is needed."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from support.fake_slurm import FakeSlurm

from hpcens.errors import UsageError
from hpcens.launch import slurm as launch
from hpcens.launch.slurm import QueuedJob
from hpcens.runs import AGAIN, Events, RunDirectory, SlurmJob, Submission, Verdict, WorldFormed
from hpcens.runs.failing_nodes import failing_nodes
from hpcens.runs.status import status
from hpcens.specs import CpuSpec, DevicesSpec, Job, RunSpec, SlurmSpec

PREFLIGHT = SimpleNamespace(facts=SimpleNamespace(rows=4000), digests={"a": {"code": "x"}}, rule={"rule": "mean"})
SBATCH = """#!/bin/sh
[ $(wc -l < {folder}/ids) -gt 0 ] || { echo "sbatch: error: no such partition" >&2; exit 1; }
echo "Submitted batch job $(head -1 {folder}/ids)"
sed -i 1d {folder}/ids
"""


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    fake = FakeSlurm(tmp_path / "slurm", monkeypatch)
    (fake.folder / "srun").write_text("#!/bin/sh\n")
    (fake.folder / "srun").chmod(0o755)
    (fake.folder / "sbatch").write_text(SBATCH.replace("{folder}", str(fake.folder)))
    (fake.folder / "sbatch").chmod(0o755)
    return fake


def submit(tmp_path, slurm, *ids, resubmit=0):
    """Submit a job of which sbatch takes as many as there are ids."""
    (slurm.folder / "ids").write_text("".join(f"{number}\n" for number in ids))
    spec = RunSpec(members=(), devices=DevicesSpec(cpu=CpuSpec(count=1)))
    job = Job(datasets=(Path("/data/in.h5"),), output=tmp_path / "x.h5", spec=spec)
    return launch.submit(job, PREFLIGHT, settings=SlurmSpec(), resubmit=resubmit)


def test_what_sbatch_refuses_leaves_what_was_submitted_before(tmp_path, slurm):
    run = RunDirectory(tmp_path / "x.run")
    run.own()
    with pytest.raises(UsageError, match="no such partition"):
        submit(tmp_path, slurm)
    found = status(run.path)
    assert (found.state, found.code, found.of) == ("not submitted", 2, 4000)
    assert "no such partition" in found.reason
    assert submit(tmp_path, slurm, "7").id == "7"
    kept = run.submission
    assert (kept.jobs, kept.rows, kept.refused) == (("7",), 4000, "")
    with pytest.raises(UsageError, match="no such partition"):
        submit(tmp_path, slurm)
    assert run.submission == kept


def test_a_chain_that_sbatch_takes_in_part_names_what_waits(tmp_path, slurm):
    RunDirectory(tmp_path / "x.run").own()
    with pytest.raises(UsageError, match=r"no such partition; job 7, 8 waits in the queue") as caught:
        submit(tmp_path, slurm, "7", "8", resubmit=2)
    assert "hpcens cancel" in caught.value.remedy
    assert RunDirectory(tmp_path / "x.run").submission.jobs == ("7", "8")


def test_a_node_on_which_starts_failed_twice_is_left_out_of_the_next(tmp_path, slurm, capsys):
    run = RunDirectory(tmp_path / "x.run")
    killed = [Verdict(1, "rank 3 was killed by SIGKILL", AGAIN, 3, "reducer", node) for node in ("n2", "n3")]
    killed.append(Verdict(75, "GPU GPU-aa11 of n2 failed: CUDA error: ECC", AGAIN, 3, "device n2/cuda0", "n2"))
    for number, verdict in enumerate(killed):
        run.begin(SlurmJob(str(number), "c", 0, "abcd")).judge(verdict)
    assert failing_nodes(run) == {"n2": 2}
    submit(tmp_path, slurm, "7")
    assert "n2 is left out: 2 starts failed there; to take it: --slurm exclude=none" in capsys.readouterr().err
    [script] = run.path.glob("submitit/*/7_submission.sh")
    assert "#SBATCH --exclude=n2\n" in script.read_text()
    spec = RunSpec(members=(), devices=DevicesSpec(cpu=CpuSpec(count=1)))
    job = Job(datasets=(Path("/data/in.h5"),), output=tmp_path / "x.h5", spec=spec)
    for given, line in (("n7", "#SBATCH --exclude=n7,n2\n"), ("none", "")):
        text = launch.sbatch_text(job, SlurmSpec(arguments={"exclude": given}))
        assert (line in text) if line else ("exclude" not in text)
    slurm.has(("0", "CANCELLED", "None", "a"), ("2", "FAILED", "None", "a"))
    assert failing_nodes(run) == {}, "somebody cancelled the one"
    slurm.has()
    well = run.begin(SlurmJob("9", "c", 0, "abcd"))
    writer = Events(well.events)
    writer.add(WorldFormed("mpi", {"n2": 4}, False, ()))
    writer.close()
    well.judge(Verdict(75, "drained"))
    assert failing_nodes(run) == {}, "it went well since"


@pytest.mark.parametrize("cancelled", [False, True])
def test_a_followed_job_that_slurm_puts_back_is_followed_on(tmp_path, slurm, monkeypatch, cancelled):
    """A node failed: the start ended with a verdict, its job goes on. A cancelled one does not."""
    run = RunDirectory(tmp_path / "x.run")
    run.own()
    name = "hpcens-x-abcd"
    submission = Submission(id="abcd", jobs=("7",), requeues=1, folder=str(run.path), epoch=0, submitted=0.0)
    run.keep(submission)
    run.begin(SlurmJob("7", "c", 0, "abcd")).judge(Verdict(1, "node n2 failed", AGAIN))
    slurm.has(("7", "PENDING", "BeginTime", name, 1))
    monkeypatch.setattr(launch, "AFTER_VERDICT_SECONDS", 0.0)
    if cancelled:
        run.cancel.write_text(json.dumps({"reason": "cancelled", "names": ["abcd"]}))
    looks = []

    def tick(epoch):
        looks.append(epoch.number)
        if len(looks) == 4:
            run.begin(SlurmJob("7", "c", 1, "abcd")).judge(Verdict(0, "done"))

    watcher = SimpleNamespace(tick=tick, say=lambda line: None)
    verdict = QueuedJob(run, submission).follow(watcher)
    assert verdict.reason == ("node n2 failed" if cancelled else "done")


def test_a_followed_job_that_is_gone_ends_with_its_verdict(tmp_path, slurm):
    run = RunDirectory(tmp_path / "x.run")
    run.own()
    submission = Submission(id="abcd", jobs=("7", "8"), requeues=1, folder=str(run.path), epoch=0, submitted=0.0)
    run.keep(submission)
    run.begin(SlurmJob("7", "c", 0, "abcd")).judge(Verdict(65, "bad rows"))
    slurm.has()
    said = []
    assert QueuedJob(run, submission).follow(SimpleNamespace(tick=said.append, say=said.append)).code == 65
