"""What is asked of Slurm, and which ranks play which role on its nodes; no Slurm is needed."""

import errno
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from support.instances import problem
from support.placements import planned

import hpcens
from hpcens.config.site import site_profiles, slurm_settings
from hpcens.engine import keep_to_cores
from hpcens.errors import INCOMPLETE, HpcensError, Silent, Stopped, Superseded, UsageError, as_verdict
from hpcens.launch.slurm import sbatch_text
from hpcens.launch.time_limit import limit_seconds
from hpcens.processes import Process, born, is_stopped
from hpcens.roles.rank_roles import Hello, assign_roles
from hpcens.runs import AGAIN, Epoch, RunDirectory, Verdict, sign
from hpcens.runs.roll_call import again
from hpcens.scoring.heartbeat import Heartbeat, leaves_unseen
from hpcens.specs import CpuSpec, CudaSpec, DevicesSpec, Job, RunSpec, SlurmSpec
from hpcens.vocabulary import Device

GOLDEN = """#!/bin/bash

# Parameters
#SBATCH --account=physics
#SBATCH --gpus-per-node=4
#SBATCH --job-name=hpcens-out-ID
#SBATCH --mem=65536M
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=6
#SBATCH --open-mode=append
#SBATCH --output=/data/out.run/submitit/ID/%j_script.log
#SBATCH --partition=gpu
#SBATCH --requeue
#SBATCH --reservation=night
#SBATCH --signal=USR2@120
#SBATCH --time=4:00:00

# setup
module load mpich
export PYTHONSAFEPATH=1
export PYTHONPATH=$(tr : "\\n" <<< "$PYTHONPATH" | grep -vxF -e "" -e . -e "$PWD" | paste -sd:)
ONCE_MORE

# command
export SUBMITIT_EXECUTOR=slurm
srun --unbuffered --output /data/out.run/submitit/ID/%j_%t_log.out --mpi=pmix --kill-on-bad-exit=1 --label \
--output=/data/out.run/submitit/ID/%j_%N_%n.log sh -c 'trap "" USR2; exec "$@"' sh PYTHON ENTRY \
-m hpcens.launch.queued -u -m submitit.core._submit /data/out.run/submitit/ID
"""


def job(**devices):
    spec = RunSpec(members=(), devices=DevicesSpec(**devices))
    return Job(datasets=(Path("/data/in.h5"),), output=Path("/data/out.h5"), spec=spec)


@pytest.fixture
def srun(tmp_path, monkeypatch):
    """submitit only looks whether there is one; nothing says what nodes have."""
    monkeypatch.setattr("hpcens.launch.cores.node_groups", lambda: ())
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
    entry = shlex.quote(str(Path(hpcens.__file__).with_name("entry.py")))
    text = text.replace(again(Path("/data/out.run/submitit/ID")), "ONCE_MORE")
    assert text.replace(shlex.quote(sys.executable), "PYTHON").replace(entry, "ENTRY") == GOLDEN


@pytest.mark.parametrize(
    ("limit", "seconds"),
    [("30", 1800), ("2:30", 150), ("1:00:00", 3600), ("1-0", 86400), ("1-2:30", 95400), ("2-00:00:05", 172805)],
)
def test_limits_are_read_as_sbatch_reads_them(limit, seconds):
    assert limit_seconds(limit) == seconds


def test_a_job_that_would_drain_before_it_scores_is_refused(srun):
    """Story: with time=1 and a warning 600 s before the end a job drained at once, ten times over."""
    cpus = job(cpu=CpuSpec(count=1))
    with pytest.raises(UsageError, match=r"slurm.time 1 is 60 s, and slurm.drain_seconds warns a job 600 s before"):
        sbatch_text(cpus, SlurmSpec(time="1", drain_seconds=600))
    with pytest.raises(UsageError, match=r"before it scores anything"):
        sbatch_text(cpus, SlurmSpec(time="2:30"))
    assert "USR2@30" in sbatch_text(cpus, SlurmSpec(time="2:30", drain_seconds=30))
    assert "USR2@90" in sbatch_text(cpus, SlurmSpec(time="2:31"))


def test_ranks_for_the_reducers_of_a_given_plan_are_asked_for(srun, tmp_path):
    (tmp_path / "plan.json").write_text(replace(planned(problem(1)), readers=2, reducers=3).to_json())
    wanted = replace(job(cuda=CudaSpec(count=4)), plan=tmp_path / "plan.json")
    assert "#SBATCH --ntasks-per-node=8\n" in sbatch_text(wanted, SlurmSpec(nodes=2))
    assert "#SBATCH --ntasks-per-node=6\n" in sbatch_text(wanted, SlurmSpec(nodes=2, tasks_per_node=6))


def test_cores_of_cpu_devices_are_asked_for_and_an_unknown_number_of_ranks_is_refused(srun):
    """Story: a reader and a reducer of as many cores as a device took an eighth of a node, or did not fit it."""
    devices = job(cpu=CpuSpec(count=16, cores=4))
    text = sbatch_text(devices, SlurmSpec(nodes=3))
    assert "#SBATCH --ntasks-per-node=16\n" in text
    assert "#SBATCH --cpus-per-task=4\n" in text
    shared = " --kill-on-bad-exit=1 --ntasks=54 --ntasks-per-node=18 --overcommit --whole --cpu-bind=none --label "
    assert shared in text and "unset SLURM_CPUS_PER_TASK" in text
    assert "--time" not in text
    for own in (SlurmSpec(cpus_per_task=3), SlurmSpec(tasks_per_node=20)):
        text = sbatch_text(devices, own)
        assert f"#SBATCH --ntasks-per-node={own.tasks_per_node or 18}\n" in text
        assert f"--kill-on-bad-exit=1 --cpus-per-task={own.cpus_per_task or 4} --label" in text
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
        ("=3", "not key=value"),
        ("array=0-3", "array cannot be asked for\n.*hpcens list"),
        ("array", "array cannot be asked for"),
        ("--wait", "wait cannot be asked for\n.*hpcens wait RUN"),
        ("no-requeue", "no-requeue cannot be asked for\n.*slurm.requeues: 0"),
        ("reservation=", "reservation has no value"),
        ("partiton=gpu", 'did you mean "partition"'),
        ("nodes=0", "1 or more"),
        ("time=x", "no time"),
    ],
)
def test_wrong_options_are_refused(option, says):
    with pytest.raises(UsageError, match=says):
        slurm_settings(SlurmSpec(), [option], ())


@pytest.mark.parametrize("option", ["hold", "--hold", "hold=", "hold=true"])
def test_a_flag_of_sbatch_takes_no_value(srun, option):
    settings = slurm_settings(
        SlurmSpec(nodes=1), [option, "spread-job", "no-kill", "wckey=mine", "contiguous=false"], ()
    )
    text = sbatch_text(job(cpu=CpuSpec(count=2)), settings)
    for line in ("#SBATCH --hold\n", "#SBATCH --spread-job\n", "#SBATCH --no-kill\n", "#SBATCH --wckey=mine\n"):
        assert line in text
    assert "contiguous" not in text
    with pytest.raises(UsageError, match="array cannot be asked for"):
        slurm_settings(SlurmSpec(arguments={"array": "0-3"}), (), ())


def test_a_profile_has_one_section(tmp_path):
    (tmp_path / "site.yaml").write_text("slurm: {nodes: two}\npartition: gpu\n")
    with pytest.raises(
        UsageError, match=r"site.yaml:1: slurm.nodes: expected a whole number(.|\n)*:2: partition: unknown key"
    ):
        slurm_settings(SlurmSpec(), (), [tmp_path / "site.yaml"])


@pytest.mark.parametrize(
    ("bind", "of", "kept"), [("none", 8, {4, 5}), ("none", 4, set(range(8))), ("cores", 8, set(range(8)))]
)
def test_a_device_keeps_to_cores_of_its_own_where_the_job_has_just_as_many(monkeypatch, bind, of, kept):
    mask = set(range(8))
    monkeypatch.setenv("SLURM_CPU_BIND_TYPE", bind)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(mask))
    monkeypatch.setattr(os, "sched_setaffinity", lambda process, cores: (mask.clear(), mask.update(cores)))
    keep_to_cores(Device("n0/cpu2", "cpu", "cpu×2", 1 << 30, 2, 2, "n0"), of)
    assert mask == kept


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


def test_a_neighbour_that_is_stopped_with_its_witness_is_named(epoch, monkeypatch):
    heart = Heartbeat(epoch, "n1", lambda line: None, silent=3)
    stopped = subprocess.Popen([sys.executable, "-c", "import os, signal; os.kill(os.getpid(), signal.SIGSTOP)"])
    while not is_stopped(stopped.pid):
        time.sleep(0.01)
    here = Process.current()
    monkeypatch.setattr(Process, "current", lambda: Process(here.host, here.boot, stopped.pid, born(stopped.pid)))
    sign(epoch, 2, "device n1/cpu0")
    heart.speak_for_node(True)
    beat(heart, 14)
    with pytest.raises(Stopped, match=rf"rank 2 \(device n1/cpu0\), process {stopped.pid} on .* was stopped"):
        beat(heart, 1)
    stopped.kill()
    stopped.wait()


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


def test_ranks_of_a_start_that_may_be_obsolete_say_no_word_to_mpi(tmp_path):
    run = RunDirectory(tmp_path / "out.run")
    first = run.begin()
    assert not leaves_unseen(first, RuntimeError("a message failed"))
    assert leaves_unseen(first, Silent("node n1"))
    first.judge(Verdict(INCOMPLETE, "drained"))
    second = run.begin()
    assert leaves_unseen(first, RuntimeError("a message failed"))
    assert not leaves_unseen(second, RuntimeError("a message failed"))


def test_a_profile_in_a_working_folder_that_is_not_the_yamls_is_not_read(tmp_path, monkeypatch, capsys):
    """Whoever may write to the working folder could have any command run in the job."""
    home, project, shared = tmp_path / "home", tmp_path / "project", tmp_path / "shared"
    for folder, partition in ((project, "mine"), (shared, "planted")):
        folder.mkdir()
        (folder / "hpcens.site.yaml").write_text(f"slurm: {{partition: {partition}, setup: [touch {partition}]}}")
    monkeypatch.setattr("pathlib.Path.home", lambda: home)
    for working, said in (
        (project, ""),
        (shared, "hpcens.site.yaml in the working folder is not read"),
        (tmp_path, ""),
    ):
        monkeypatch.chdir(working)
        settings = slurm_settings(SlurmSpec(), (), site_profiles(project))
        assert settings.setup == ("touch mine",) and settings.partition == "mine"
        assert said in (got := capsys.readouterr().err) and bool(said) == bool(got)
    (project / "hpcens.site.yaml").unlink()
    monkeypatch.chdir(shared)
    assert slurm_settings(SlurmSpec(), (), site_profiles(project)).partition is None
    (project / "hpcens.site.yaml").symlink_to(shared / "hpcens.site.yaml")  # the user's own doing
    capsys.readouterr()
    assert (
        slurm_settings(SlurmSpec(), (), site_profiles(project)).partition == "planted" and not capsys.readouterr().err
    )
