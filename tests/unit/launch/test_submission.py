"""What is asked of Slurm, and what is made of its answers; no Slurm is needed."""

import errno
import json
import re
import signal
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.instances import problem
from support.placements import planned

from hpcens.config.site import slurm_settings
from hpcens.errors import COMPLETE, INCOMPLETE, HpcensError, Silent, Superseded, UsageError, as_verdict
from hpcens.launch.slurm import sbatch_text
from hpcens.roles.rank_roles import Hello, assign_roles
from hpcens.runs import AGAIN, Epoch, Events, RunDirectory, SlurmJob, Submission, Verdict, recent
from hpcens.runs.postmortem import explain
from hpcens.runs.requeue import continues, decide, outcome, why
from hpcens.runs.status import status
from hpcens.scheduler.jobs import Answer, parse_job, requeue
from hpcens.scoring.heartbeat import Heartbeat, leaves_unseen
from hpcens.specs import CpuSpec, CudaSpec, DevicesSpec, Job, RunSpec, SlurmSpec
from hpcens.vocabulary import Device

GOLDEN = """#!/bin/bash

# Parameters
#SBATCH --account=physics
#SBATCH --error=/data/out.run/submitit/ID/%j_0_log.err
#SBATCH --gpus-per-node=4
#SBATCH --job-name=hpcens-out-ID
#SBATCH --mem=65536M
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=6
#SBATCH --open-mode=append
#SBATCH --output=/data/out.run/submitit/ID/%j_0_log.out
#SBATCH --partition=gpu
#SBATCH --requeue
#SBATCH --reservation=night
#SBATCH --signal=USR2@120
#SBATCH --time=4:00:00
#SBATCH --wckey=submitit

# setup
module load mpich

# command
export SUBMITIT_EXECUTOR=slurm
srun --unbuffered --output /data/out.run/submitit/ID/%j_%t_log.out --error /data/out.run/submitit/ID/%j_%t_log.err \
--mpi=pmix --kill-on-bad-exit=1 PYTHON -u -m submitit.core._submit /data/out.run/submitit/ID
"""


def job(**devices):
    spec = RunSpec(members=(), devices=DevicesSpec(**devices))
    return Job(datasets=(Path("/data/in.h5"),), output=Path("/data/out.h5"), spec=spec)


@pytest.fixture
def srun(tmp_path, monkeypatch):
    """submitit only looks whether there is one."""
    (tmp_path / "srun").write_text("#!/bin/sh\n")
    (tmp_path / "srun").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")


def test_the_golden_script(srun):
    import shlex
    import sys

    settings = SlurmSpec(
        nodes=2,
        account="physics",
        memory=64 << 30,
        partition="gpu",
        time="4:00:00",
        setup=("module load mpich",),
        mpi="pmix",
        drain_seconds=120,
        arguments={"reservation": "night"},
    )
    text = sbatch_text(job(cuda=CudaSpec(count=4)), settings)
    assert text.replace(shlex.quote(sys.executable), "PYTHON") == GOLDEN


def test_ranks_for_the_reducers_of_a_given_plan_are_asked_for(srun, tmp_path):
    (tmp_path / "plan.json").write_text(replace(planned(problem(1)), readers=2, reducers=3).to_json())
    wanted = replace(job(cuda=CudaSpec(count=4)), plan=tmp_path / "plan.json")
    assert "#SBATCH --ntasks-per-node=8\n" in sbatch_text(wanted, SlurmSpec(nodes=2))
    assert "#SBATCH --ntasks-per-node=6\n" in sbatch_text(wanted, SlurmSpec(nodes=2, tasks_per_node=6))


def test_cores_of_cpu_devices_are_asked_for_and_an_unknown_number_of_ranks_is_refused(srun):
    text = sbatch_text(job(cpu=CpuSpec(count=2, cores=4)), SlurmSpec())
    assert "#SBATCH --ntasks-per-node=4\n" in text
    assert "#SBATCH --cpus-per-task=4\n" in text
    assert "--cpus-per-task=4 " in text
    assert "--time" not in text
    with pytest.raises(UsageError, match="how many devices a node has"):
        sbatch_text(job(), SlurmSpec())


def test_the_nearer_profile_wins_and_the_command_line_over_all(tmp_path):
    system, user = tmp_path / "system.yaml", tmp_path / "user.yaml"
    system.write_text("slurm: {partition: cpu, mpi: pmix, memory: 4GiB, arguments: {reservation: day, gres: x}}")
    user.write_text("slurm: {partition: gpu, arguments: {reservation: night}}")
    spec = SlurmSpec(time="60", account="a")
    made = slurm_settings(
        spec, ["account=b", "gpus-per-node=4", "exclude=n7", "gpus-per-task=1"], (system, user, tmp_path / "absent")
    )
    assert made == SlurmSpec(
        partition="gpu",
        mpi="pmix",
        memory=4 << 30,
        time="60",
        account="b",
        gpus_per_node=4,
        arguments={"reservation": "night", "gres": "x", "exclude": "n7", "gpus-per-task": "1"},
    )


@pytest.mark.parametrize(
    ("option", "says"),
    [
        ("nodes", "not key=value"),
        ("partiton=gpu", 'did you mean "partition"'),
        ("nodes=0", "1 or more"),
        ("time=x", "no time"),
    ],
)
def test_wrong_options_are_refused(option, says):
    with pytest.raises(UsageError, match=says):
        slurm_settings(SlurmSpec(), [option], ())


def test_a_profile_has_one_section(tmp_path):
    (tmp_path / "site.yaml").write_text("slurm: {nodes: two}\npartition: gpu\n")
    with pytest.raises(
        UsageError, match=r"site.yaml:1: slurm.nodes: expected a whole number(.|\n)*:2: partition: unknown key"
    ):
        slurm_settings(SlurmSpec(), (), [tmp_path / "site.yaml"])


DRAINED = Verdict(INCOMPLETE, "stopped by SIGUSR2: 3 of 9 rows are durable", "run the same command again to continue")


@given(
    st.lists(st.sampled_from([signal.SIGUSR2, signal.SIGTERM, signal.SIGINT])),
    st.sampled_from(["", "preempted", "cancelled", "the time limit is near"]),
    st.integers(0, 5),
    st.integers(0, 5),
)
def test_only_a_warned_and_drained_job_requeues_itself_and_only_so_often(heard, reason, before, bound):
    told, again = decide(DRAINED, heard, reason, before, bound)
    warned = signal.SIGUSR2 in heard or reason == "preempted"
    assert again == (warned and before < bound)
    assert told.code == INCOMPLETE
    assert decide(Verdict(COMPLETE, "done"), heard, reason, before, bound) == (Verdict(COMPLETE, "done"), False)
    assert (f"requeued {before} times already" in told.reason) == (warned and before >= bound)


def test_why_a_job_was_asked_to_stop():
    running = Answer("RUNNING", ends=time.time() + 60)
    assert why([signal.SIGUSR2], running) == "the time limit is near"
    assert why([signal.SIGUSR2], replace(running, preempted=True)) == "preempted"
    assert why([signal.SIGTERM], replace(running, preempted=True)) == "preempted"
    assert why([signal.SIGTERM], Answer("CANCELLED")) == "cancelled"
    assert why([signal.SIGTERM], None) == ""


def test_a_line_of_scontrol():
    line = "JobId=3 JobName=a JobState=RUNNING Reason=None EndTime=2026-11-24T08:31:40 NodeList=n[1-2] ExitCode=0:0"
    assert parse_job(line).nodes == "n[1-2]"
    assert (parse_job(line).preempted, parse_job(f"{line} PreemptTime=2026-11-24T08:31:20").preempted) == (False, True)


def test_a_start_succeeds_those_of_its_own_job_alone():
    first = {"id": "7", "cluster": "c", "restart": 0, "submission": "x"}
    assert SlurmJob("7", "c", 1, "x").succeeds(first)
    assert SlurmJob("8", "c", 0, "x").succeeds(first)  # it waited for the first to be killed
    assert not SlurmJob("7", "c", 0, "x").succeeds(first)
    assert not SlurmJob("7", "c", 1, "y").succeeds(first)  # a new cluster counts from 1 again
    assert not SlurmJob("7", "c", 1).succeeds(None)


@pytest.mark.parametrize(
    ("state", "says"),
    [
        ("TIMEOUT", "time limit"),
        ("PREEMPTED", "preempted"),
        ("CANCELLED", "cancelled"),
        ("OUT_OF_MEMORY", "host memory"),
        ("NODE_FAIL", r"a node failed \(n3\)"),
    ],
)
def test_ends_in_words(state, says):
    assert re.search(says, explain(Answer(state, nodes="n3"), "", None).reason)


def test_a_job_that_never_began_gives_its_last_words_and_misfits_their_remedy(tmp_path):
    (tmp_path / "7_0_log.err").write_text("ModuleNotFoundError: No module named 'hpcens'\nsrun: error: n1: exit 1\n")
    assert "No module named 'hpcens'" in explain(Answer("FAILED"), str(tmp_path), None).reason
    (tmp_path / "7_1_log.err").write_text("slurmstepd-n2: error: mpi/pmi2: invalid client request\n")
    assert "UCX_TLS" in explain(Answer("FAILED"), str(tmp_path), None).remedy
    said = "srun: error: Invalid MPI type 'pmix', --mpi=list for acceptable types"
    (tmp_path / "7_1_log.err").write_text(f"{said}\n")
    told = explain(Answer("FAILED"), str(tmp_path), None)
    assert (said in told.reason, "mpi=pmi2" in told.remedy) == (True, True)


def gpu(rank, node, index=0):
    return Device(f"{node}/cuda{index}", "cuda", "cuda A100", 1 << 30, 1, index, node)


def test_one_gpu_a_task_those_of_reader_and_reducer_idle():
    hellos = [Hello(r, "n0", (gpu(r, "n0"),), "mpi", (f"GPU-{r}",)) for r in range(4)]
    few = [Hello(r, f"n{r // 2}", (gpu(r, f"n{r // 2}"),), "mpi", (f"GPU-{r}",)) for r in range(4)]
    assert (assign_roles(few).idle, len(assign_roles(few).devices)) == (("n0/cuda0", "n0/cuda1"), 2)
    made = assign_roles(hellos)
    assert made.idle == ("n0/cuda0", "n0/cuda1")
    assert {rank: (d.name, d.index) for rank, d in made.devices.items()} == {2: ("n0/cuda2", 0), 3: ("n0/cuda3", 0)}


def test_uneven_nodes_all_gpus_visible():
    hellos = []
    for node, gpus in (("n0", 2), ("n1", 1), ("n2", 2)):
        devices = tuple(gpu(0, node, i) for i in range(gpus))
        hellos += [
            Hello(len(hellos) + i, node, devices, "mpi", tuple(f"{node}-{i}" for i in range(gpus))) for i in range(4)
        ]
    made = assign_roles(hellos)
    assert sorted(d.name for d in made.devices.values()) == ["n0/cuda0", "n0/cuda1", "n1/cuda0", "n2/cuda0", "n2/cuda1"]
    assert made.idle == ()
    assert made.speakers == {"n0": 0, "n1": 4, "n2": 8}


def beat(heart, times):
    for _ in range(times):
        heart.beat()


@pytest.fixture
def epoch(tmp_path):
    (tmp_path / "x.run" / "epochs" / "0001" / "ranks").mkdir(parents=True)
    return Epoch(tmp_path / "x.run" / "epochs" / "0001")


def test_a_node_whose_counter_stands_is_named(epoch):
    mine, other = (Heartbeat(epoch, node, lambda line: None, silent=3) for node in ("n1", "n2"))
    mine.watch(["n1", "n2"])
    for _ in range(30):
        other.beat()
        mine.beat()
    with pytest.raises(HpcensError, match="node n2 gave no sign of life for 15 s") as caught:
        beat(mine, 30)
    assert caught.value.remedy == AGAIN


def test_a_survivor_leaves_once_a_newer_start_is_there(epoch):
    heart = Heartbeat(epoch, "n1", lambda line: None)
    epoch.successor.mkdir()
    with pytest.raises(Superseded, match="epoch 2 took this run over"):
        beat(heart, 5)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.ESTALE])
def test_what_a_shared_file_system_does_ends_resumable(number):
    told = as_verdict(OSError(number, "no", "/data/x"))
    assert told.exit_code == INCOMPLETE
    assert "run the same command again" in told.remedy


def test_a_verdict_is_told_on_a_full_disk_too(tmp_path, monkeypatch):
    epoch = RunDirectory(tmp_path / "x.run").begin()

    def full(path, text):
        path.touch()
        raise OSError(errno.ENOSPC, "no space is left")

    monkeypatch.setattr(Path, "write_text", full)
    full_disk = Verdict(INCOMPLETE, "the disk is full", AGAIN)
    assert epoch.judge(full_disk) == full_disk == epoch.verdict
    assert epoch.judge(Verdict(COMPLETE, "another rank, later")) == full_disk
    assert [path.name for path in epoch.folder.glob(".*")] == []


def test_status_of_a_long_run_is_read_from_the_ends_of_its_files(epoch):
    lines = (json.dumps({"time": i, "event": "progress", "rows": i + 1, "of": 100_000}) for i in range(100_000))
    epoch.events.write_text("\n".join(lines) + "\n")
    epoch.claim.write_text(json.dumps({"began": time.time() - 10, "boot": "", "pid": 0, "born": 1, "host": "h"}))
    epoch.judge(Verdict(INCOMPLETE, "cancelled", AGAIN))
    read = []
    size = epoch.events.stat().st_size
    found = status(epoch.folder.parent.parent, ask=lambda run, job: read.append(job) or (None, 0.0))
    assert (found.rows, found.state, read) == (100_000, "resumable", [])
    assert size > 1 << 22
    assert len(recent(epoch.events)) < 1000


def test_a_start_that_lives_is_told_by_what_it_is_at(tmp_path):
    run = RunDirectory(tmp_path / "x.run")
    run.path.mkdir()
    epoch = run.begin()
    epoch.job.write_text(json.dumps({"job": "", "preflight": json.dumps({"facts": {"rows": 800}})}))
    found = status(run.path)
    assert (found.state, found.of, found.reason) == ("running", 800, "its ranks find each other")
    events = Events(epoch.events)
    for event, says in (("world", "plan"), ("planned", "load the members")):
        events.add(event)
        assert says in status(run.path).reason
    events.add("progress", rows=16, of=800)
    found = status(run.path)
    assert found.rows == 16 and "is alive" in found.reason
    events.add("draining", reason="cancelled")
    assert status(run.path).reason == "draining: cancelled"
    events.close()


def test_a_queued_job_is_asked_for_and_one_of_another_cluster_is_not_believed(tmp_path):
    run = RunDirectory(tmp_path / "x.run")
    run.path.mkdir()
    run.keep(Submission(id="abcd", jobs=("7",), requeues=1, folder=str(run.path), epoch=0, submitted=0.0))
    pending = Answer("PENDING", "Priority", name="hpcens-x-abcd")
    assert status(run.path, ask=lambda run, job: (pending, 0.0)).state == "queued"
    assert status(run.path, ask=lambda run, job: (replace(pending, name="hpcens-x-ffff"), 0.0)).state == "failed"
    assert status(run.path, ask=lambda run, job: (None, 0.0)).state == "unknown"


def test_a_start_whose_job_slurm_refused_to_requeue_says_so_and_what_to_do(tmp_path):
    run = RunDirectory(tmp_path / "out.run")
    epoch = run.begin()
    epoch.judge(Verdict(INCOMPLETE, "the time limit is near", "none needed: the job continues by itself"))
    kept = {"job": asdict(SlurmJob("7", "c", 0)), "reason": "the time limit is near", "time": 0.0}
    epoch.requeue.write_text(json.dumps(kept | {"refused": ""}))
    assert continues(epoch)
    assert outcome(epoch) == epoch.verdict
    epoch.requeue.write_text(json.dumps(kept | {"refused": "Job is disabled"}))
    assert not continues(epoch)
    found = status(run.path)
    assert (found.state, found.remedy, found.requeues) == ("resumable", AGAIN, [])
    assert found.reason == "the time limit is near; Slurm did not requeue it: Job is disabled"


def test_a_controller_that_is_away_is_waited_for(tmp_path, monkeypatch):
    """The first two answers are those of a login node that does not reach it; a refusal is not asked again."""
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    (tmp_path / "scontrol").write_text(
        '#!/bin/sh\necho "$@" >> $0.asked\n[ $(wc -l < $0.asked) -gt 2 ] && exit 0\n'
        'echo "Unable to contact slurm controller (connect failure)" >&2; exit 1\n'
    )
    (tmp_path / "scontrol").chmod(0o755)
    assert requeue("7") == ""
    assert (tmp_path / "scontrol.asked").read_text() == "requeue 7\n" * 3
    (tmp_path / "scontrol").write_text('#!/bin/sh\necho "$@" >> $0.again\necho "not permitted" >&2; exit 1\n')
    assert requeue("7") == "not permitted"
    assert (tmp_path / "scontrol.again").read_text() == "requeue 7\n"


def test_ranks_of_a_start_that_may_be_obsolete_say_no_word_to_mpi(tmp_path):
    run = RunDirectory(tmp_path / "out.run")
    first = run.begin()
    assert not leaves_unseen(first, RuntimeError("a message failed"))
    assert leaves_unseen(first, Silent("node n1"))
    first.judge(Verdict(INCOMPLETE, "drained"))
    second = run.begin()
    assert leaves_unseen(first, RuntimeError("a message failed"))
    assert not leaves_unseen(second, RuntimeError("a message failed"))
