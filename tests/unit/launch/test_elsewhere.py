"""A job for GPUs is tried, planned and handed in from a host that has none."""

import pytest

from hpcens.checks import member_process, members
from hpcens.checks.trials import Trial
from hpcens.cli import main
from hpcens.config import load
from hpcens.engine import discovery
from hpcens.errors import COMPLETE, FAILURE, USAGE
from hpcens.launch import slurm
from hpcens.launch.start import check_once
from hpcens.planning import inventory
from hpcens.processes.isolation import NoAnswer
from hpcens.profiling import ProfileBook
from hpcens.profiling.needs import profile_key
from hpcens.scheduler import jobs
from hpcens.scheduler.nodes import parse_nodes
from hpcens.specs import Job
from hpcens.vocabulary import BatchProfile, Device, Profile

OWN = """
from nets import Linear, Conv, Recurrent

class OnGpus(Linear):
    def forward(self, x):
        return super().forward(x.cuda())

class Wrong(Linear):
    def forward(self, x):
        return super().forward(x[:, :1])
"""


@pytest.fixture
def login(project, monkeypatch):
    """A login node without GPUs of a cluster that has some; what is handed in is noted in `handed`."""
    handed = []

    class Queued:
        id = "7"

    def submit(job, preflight, *, settings, resubmit=0):
        handed.append(settings)
        return Queued()

    monkeypatch.setattr(slurm, "submit", submit)
    monkeypatch.setattr(jobs, "answers", lambda: True)
    monkeypatch.setattr(jobs, "ask", lambda job: None)
    monkeypatch.setattr(inventory, "node_groups", lambda: parse_nodes("gpu|4|idle|64|515000|gpu:trial:4\n"))
    monkeypatch.setattr(discovery, "_gpus", lambda host: ())
    monkeypatch.setenv("HPCENS_CACHE", str(project.folder / "cache"))
    monkeypatch.chdir(project.folder)
    project.yaml(devices="{cuda: 2}", members={"linear": "Linear", "conv": "Conv"})
    project.handed = handed
    return project


def with_own(project, factory):
    (project.folder / "own.py").write_text(OWN)
    yaml = (project.folder / "hpcens.yaml").read_text().replace("nets:Linear", f"own:{factory}")
    (project.folder / "hpcens.yaml").write_text(yaml)


def profiled(project):
    """Profiles of both members as a run on nodes with such GPUs has kept them."""
    spec = load(project.folder / "hpcens.yaml")
    checked = check_once(Job(datasets=(project.dataset,), output=project.output, spec=spec), "elsewhere")
    book = ProfileBook.default()
    for member in spec.members:
        key = profile_key(checked.preflight, member, "cuda Trial GPU", "eager")
        book.put(key, Profile(1, 1, 0.1, (4,), {16: BatchProfile(16, 100.0, 1, 0.01)}, (16,)))
    book.put_memory("cuda Trial GPU", 16 << 30)
    book.put_memory("cuda Trial GPU", 8 << 30)  # of a run that was to use less


@pytest.fixture
def asked(monkeypatch):
    """Trials that were asked for, in place of them: names and the family of the device."""
    trials = []

    def tried(job, preflight, missing, device, seconds):
        for member in missing:
            trials.append((member.name, device.family))
            yield member.name, Trial((4,), family=device.family)

    monkeypatch.setattr(members, "try_members", tried)
    return trials


def test_members_are_tried_on_a_cpu_device_and_the_job_is_handed_in(login, capsys):
    """Story: `2 GPUs are asked for, 0 are visible` where a login node was to hand in a job for GPU nodes."""
    login.yaml(devices="{cuda: all, cpu: 1}", members={"linear": "Linear", "conv": "Conv"})
    assert main(["submit", "dataset.h5", "--slurm", "gpus_per_node=2"]) == COMPLETE
    assert "job 7 is submitted" in capsys.readouterr().out and len(login.handed) == 1
    with_own(login, "Wrong")
    assert main(["submit", "dataset.h5", "--slurm", "gpus_per_node=2"]) == FAILURE
    assert "member linear" in capsys.readouterr().err and len(login.handed) == 1
    assert main(["submit", "dataset.h5", "--local"]) == USAGE
    assert "GPUs are asked for, 0 are visible" in capsys.readouterr().err


def test_what_fails_for_want_of_a_gpu_is_tried_once_here_and_again_at_the_start(login, capsys, monkeypatch):
    with_own(login, "OnGpus")
    asked = []
    tried = members.try_members

    def counted(job, preflight, missing, device, seconds):
        asked.append([member.name for member in missing])
        return tried(job, preflight, missing, device, seconds)

    monkeypatch.setattr(members, "try_members", counted)
    assert main(["submit", "dataset.h5"]) == COMPLETE
    said = capsys.readouterr().err
    assert (
        "warning: member linear cannot be tried on this host's CPU, and the job is for GPUs: it is tried when" in said
    )
    assert asked == [["linear", "conv"]] and len(login.handed) == 1
    (login.folder / "hpcens.yaml").write_text(
        (login.folder / "hpcens.yaml").read_text().replace("{cuda: 2}", "{cpu: 2}")
    )
    assert main(["submit", "dataset.h5"]) == FAILURE, "a job for CPUs would fail alike"
    assert len(login.handed) == 1


def test_a_trial_on_a_cpu_does_not_count_where_the_job_has_a_gpu(login, asked, monkeypatch):
    assert main(["submit", "dataset.h5"]) == COMPLETE
    gpu = Device("n/cuda0", "cuda", "cuda Trial GPU", 1 << 30, host="n")
    monkeypatch.setattr(discovery, "_gpus", lambda host: (gpu, gpu))
    assert main(["submit", "dataset.h5"]) == COMPLETE
    monkeypatch.setattr(discovery, "_gpus", lambda host: ())
    assert main(["submit", "dataset.h5"]) == COMPLETE, "one on a GPU counts everywhere"
    assert asked == [(name, family) for family in ("cpu", "cuda") for name in ("linear", "conv")]


@pytest.mark.parametrize("exit_code", [None, -9, 7])
def test_what_takes_too_long_or_too_much_memory_on_one_core_is_left_to_the_job(login, monkeypatch, exit_code):
    def tried(job, preflight, missing, device, seconds):
        for member in missing:
            yield member_process._blame(member, seconds, NoAnswer(exit_code, ()))

    monkeypatch.setattr(members, "try_members", tried)
    assert main(["submit", "dataset.h5"]) == (FAILURE if exit_code == 7 else COMPLETE)


def test_trials_are_left_to_the_job_where_that_is_wanted(login, capsys, monkeypatch):
    monkeypatch.setattr(members, "try_members", None)
    (login.folder / "hpcens.site.yaml").write_text("slurm: {check_members: job}\n")
    assert main(["submit", "dataset.h5"]) == COMPLETE
    said = capsys.readouterr().err
    assert "not tried before the job starts, by slurm.check_members: linear, conv" in said
    assert login.handed[0].check_members == "job"
    assert main(["submit", "dataset.h5", "--slurm", "check_members=later"]) == USAGE
    assert "submit, job" in capsys.readouterr().err


def test_a_cluster_is_planned_from_profiles_of_its_kind(login, capsys, asked):
    yaml = (login.folder / "hpcens.yaml").read_text()
    (login.folder / "hpcens.yaml").write_text(yaml.replace("batch_sizes: [16]", "batch_sizes: [16], runtime: eager"))
    assert main(["profile", "dataset.h5"]) == USAGE
    assert "2 GPUs are asked for, 0 are visible" in capsys.readouterr().err
    assert main(["plan", "dataset.h5"]) == USAGE
    assert "Slurm has GPUs trial, and nothing says how much memory they have" in capsys.readouterr().err
    profiled(login)
    capsys.readouterr()
    assert main(["plan", "dataset.h5"]) == COMPLETE
    out = capsys.readouterr().out
    assert "gpu-1/cuda0" in out and "on 2 devices" in out and "14.9 GiB" not in out
    assert main(["plan", "dataset.h5", "--compare"]) == COMPLETE
    assert main(["plan", "dataset.h5", "--nodes", "2"]) == COMPLETE
    assert "on 4 devices" in capsys.readouterr().out
    assert main(["submit", "dataset.h5", "--deadline", "9h"]) == COMPLETE
    assert (login.handed[0].nodes, login.handed[0].partition, login.handed[0].gpus_per_node) == (1, "gpu", 2)
