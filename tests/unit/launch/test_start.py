"""The one way to start: every way in checks a job once, and hands on what was found."""

import json
import subprocess
import sys
from collections import Counter
from dataclasses import replace

import pytest
from support.instances import problem
from support.placements import planned

from hpcens.checks import preflight
from hpcens.cli import main
from hpcens.cli.runs import status_lines
from hpcens.config import load
from hpcens.errors import COMPLETE, USAGE, FingerprintMismatch, UsageError
from hpcens.files import digest_file
from hpcens.launch import as_rank, local, slurm, start, submitit_local
from hpcens.launch.submitted import made_of
from hpcens.reports.ending import ending_lines
from hpcens.runs import RunDirectory, SlurmJob, Submission, Verdict
from hpcens.runs.status import status
from hpcens.scheduler import jobs
from hpcens.specs import Job


@pytest.fixture
def steps(project, monkeypatch):
    """What a start does, in order; in place of ranks, of Slurm and of the members' trials."""
    steps = []
    project.files = Counter()

    def step(module, name, answer):
        def taken(*arguments, **_):
            steps.append((name, *arguments[:2]))
            return answer(*arguments) if callable(answer) else answer

        monkeypatch.setattr(module, name, taken)

    class Started:
        id = "7"

        def follow(self, watcher):
            steps.append(("follow", self))
            return Verdict(COMPLETE, "scored")

    def digested(path):
        project.files[path.name] += 1
        return digest_file(path)

    monkeypatch.setattr("hpcens.members.digest_file", digested)
    step(preflight, "inspecting", preflight.inspecting)
    step(start, "check_members", ("it looks wrong",))
    step(local, "start", Verdict(COMPLETE, "scored"))
    step(submitit_local, "submit", Started())
    step(slurm, "submit", Started())
    monkeypatch.setattr(jobs, "answers", lambda: False)
    monkeypatch.setattr(jobs, "ask", lambda job: None)
    monkeypatch.chdir(project.folder)
    monkeypatch.setenv("HPCENS_CACHE", str(project.folder / "cache"))
    return steps


@pytest.fixture
def srun(tmp_path, monkeypatch):
    """What submitit looks for before it writes a script."""
    (tmp_path / "srun").write_text("#!/bin/sh\n")
    (tmp_path / "srun").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")


def job(project):
    return Job(datasets=(project.dataset,), output=project.output, spec=load(project.folder / "hpcens.yaml"))


def as_a_rank(project):
    """What rank 0 of somebody else's world does before the others are told."""
    return as_rank._prepared(lambda: job(project), None)


def assert_checked_once(project, steps):
    assert [name for name, *_ in steps].count("inspecting") == 1 and steps[0][0] == "inspecting"
    assert project.files == {"linear.safetensors": 1, "conv.safetensors": 1, "recurrent.safetensors": 1}


@pytest.mark.parametrize(
    ("arguments", "slurm_answers", "ways"),
    [
        (["run", "dataset.h5"], False, ["start"]),
        (["submit", "dataset.h5"], False, ["submit", "follow"]),
        (["submit", "dataset.h5", "--local"], True, ["submit", "follow"]),
        (["submit", "dataset.h5"], True, ["submit"]),
        (["submit", "dataset.h5", "--wait"], True, ["submit", "follow"]),
    ],
)
def test_a_job_is_checked_once_and_its_members_before_it_starts(
    project, steps, monkeypatch, capsys, arguments, slurm_answers, ways
):
    monkeypatch.setattr(jobs, "answers", lambda: slurm_answers)
    assert main(arguments) == COMPLETE
    assert_checked_once(project, steps)
    assert [name for name, *_ in steps[1:]] == ["check_members", *ways]
    (_, checked, found), (_, *started) = steps[1:3]
    assert started[0] is checked and started[1] == replace(found, warnings=("it looks wrong",))
    out, error = capsys.readouterr()
    assert "hpcens: warning: it looks wrong" in error
    assert ("complete: scored" in out) == (ways[-1] != "submit")
    assert ("job 7 is submitted; next: hpcens status dataset.predictions.run" in out) == (
        slurm_answers and "--local" not in arguments
    )


def test_a_rank_of_a_given_world_is_prepared_the_same_way(project, steps):
    assert as_a_rank(project) == (str(project.run), 1)
    assert_checked_once(project, steps)
    assert [name for name, *_ in steps[1:]] == ["check_members"]
    order = json.loads(RunDirectory(project.run).newest.job.read_text())
    assert preflight.Preflight.from_json(order["preflight"]) == replace(steps[1][2], warnings=("it looks wrong",))
    assert list(ending_lines(RunDirectory(project.run), project.output)) == ["warning: it looks wrong"]
    assert "warning: it looks wrong" in list(status_lines(status(project.run)))
    again = as_a_rank(project)
    assert isinstance(again, UsageError) and "is being worked on by" in again.what


@pytest.mark.parametrize(
    ("arguments", "slurm_answers", "printed"),
    [
        (["--no-wait"], False, "job 7 is started; next: hpcens status dataset.predictions.run"),
        (["--parsable"], True, "7"),
        (["--parsable", "--no-wait"], False, "job 7 is started; next: hpcens status dataset.predictions.run"),
    ],
)
def test_a_job_that_is_not_followed_is_announced(
    project, steps, monkeypatch, capsys, arguments, slurm_answers, printed
):
    monkeypatch.setattr(jobs, "answers", lambda: slurm_answers)
    assert main(["submit", "dataset.h5", *arguments]) == COMPLETE
    assert capsys.readouterr().out == f"{printed}\n"
    assert [name for name, *_ in steps[1:]] == ["check_members", "submit"]


@pytest.mark.parametrize(("deadline", "code"), [([], COMPLETE), (["--deadline", "1h"], USAGE)])
def test_a_dry_run_checks_once_and_tries_no_member(project, steps, srun, capsys, deadline, code):
    assert main(["submit", "dataset.h5", "--dry-run", "--slurm", "nodes=2", *deadline]) == code
    assert_checked_once(project, steps)
    assert len(steps) == 1
    out, error = capsys.readouterr()
    if code == COMPLETE:
        assert "#SBATCH --nodes=2" in out and "no plan yet: " in out
    else:
        assert "no nodes are known to choose from" in error


def test_a_dry_run_is_of_the_nodes_asked_for_whatever_an_earlier_start_had(project, steps, srun, capsys):
    epoch = RunDirectory(project.run).begin()
    plan = planned(problem(1))
    epoch.keep_plan(replace(plan, devices=tuple(replace(device, host="n1") for device in plan.devices)))
    epoch.judge(Verdict(75, "drained"))
    for nodes, says in ((1, f"planner {plan.planner}: "), (3, "no plan yet: ")):
        assert main(["submit", "dataset.h5", "--dry-run", "--slurm", f"nodes={nodes}"]) == COMPLETE
        assert says in capsys.readouterr().out


@pytest.mark.parametrize("verb", ["run", "submit"])
def test_nothing_is_started_for_a_result_that_is_complete(project, steps, monkeypatch, capsys, verb):
    monkeypatch.setattr(start, "is_complete", lambda job, preflight: True)
    assert main([verb, "dataset.h5"]) == COMPLETE
    assert as_a_rank(project) is None
    assert [name for name, *_ in steps] == ["inspecting", "inspecting"]
    out = capsys.readouterr().out.splitlines()
    assert [line.partition("next: ")[0] for line in out] == [
        "dataset.predictions.h5 is complete already; ",
        f"{project.output} is complete already; ",
    ]


def test_a_submitted_job_refuses_code_that_was_edited_meanwhile(project, steps):
    run = RunDirectory(project.run)
    run.own()
    submitted = start.check_once(job(project)).preflight
    kept = {"id": "abcd", "jobs": ("7",), "requeues": 1, "folder": str(run.path), "epoch": 0, "submitted": 0.0}
    run.keep(Submission(**kept, made_of=made_of(submitted)))
    part = SlurmJob("7", "c", 0, "abcd")
    code = project.folder / "nets.py"
    before = code.read_text()
    code.write_text(before + "# edited\n")
    refused = as_rank._prepared(lambda: job(project), part)
    assert isinstance(refused, FingerprintMismatch) and "member conv (code); member " in refused.what
    assert run.newest.verdict.code == 78 and "submit it again" in run.newest.verdict.remedy
    assert as_rank._prepared(lambda: job(project), None) == (str(project.run), 2), "of no submission"
    run.newest.judge(Verdict(75, "drained"))
    code.write_text(before)
    assert as_rank._prepared(lambda: job(project), part) == (str(project.run), 3)


@pytest.mark.parametrize("arguments", [["run"], ["submit"], ["submit", "--local"]])
def test_what_a_member_breaks_starts_nothing(project, steps, monkeypatch, capsys, arguments):
    def refused(*_, **__):
        raise UsageError("members differ", "correct them")

    monkeypatch.setattr(start, "check_members", refused)
    assert main([*arguments, "dataset.h5"]) == USAGE
    assert [name for name, *_ in steps] == ["inspecting"]
    assert "members differ" in capsys.readouterr().err and not project.run.exists()


@pytest.mark.parametrize("module", ["hpcens.cli.rank", "hpcens.launch.slurm", "hpcens.launch.witness"])
def test_a_witness_imports_nothing_that_may_begin_mpi(module):
    """Story: h5py was built for MPI, which begins at its import; then the rank is forked, and MPI is lost."""
    code = f"import sys, {module}; assert not {{'h5py', 'mpi4py', 'torch'}} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
