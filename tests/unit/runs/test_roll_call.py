"""Ranks wait for those that are late, and the one that never comes is named by its node."""

import os
import subprocess

import pytest

from hpcens.runs import postmortem, roll_call
from hpcens.runs.roll_call import RollCall, present, tasks_per_node
from hpcens.scheduler.jobs import Answer


@pytest.fixture
def task(tmp_path, monkeypatch):
    """Makes tasks of a job of three nodes with 2, 2 and 1 of them."""
    monkeypatch.setattr(roll_call, "hostnames", lambda nodes: ["n1", "n2", "n7"])

    def made(number):
        environment = {
            "SLURM_JOB_ID": "12",
            "SLURM_PROCID": str(number),
            "SLURM_STEP_NUM_TASKS": "5",
            "SLURMD_NODENAME": ("n1", "n1", "n2", "n2", "n7")[number],
            "SLURM_STEP_NODELIST": "n[1-2,7]",
            "SLURM_STEP_TASKS_PER_NODE": "2(x2),1",
        }
        return RollCall(tmp_path, environment, 900, meeting=120)

    return made


def test_a_rank_that_comes_late_is_waited_for_and_named_meanwhile(task, tmp_path, capsys):
    """Story: a rank that came 120 s after the others ended the job, with another library's remedy."""
    first, *others = map(task, range(5))
    for of in (first, *others[:2]):
        of.sign()
    assert [first.overdue(seconds) for seconds in (1, 30, 61, 130, 890)] == [""] * 5
    assert capsys.readouterr().err.splitlines() == ["hpcens: 3 of 5 ranks are here; missing: n2 (1 of 2), n7"] * 3
    assert present(str(tmp_path), "12", "n[1-2,7]") == "3 of 5 ranks are here; missing: n7"
    for of in others[2:]:
        of.sign()
    assert [first.overdue(seconds) for seconds in (895, 899, 950, 1010)] == [""] * 4, "MPI may need as long again"
    first.end()
    assert present(str(tmp_path), "12", "n[1-2,7]") == ""


def test_one_that_never_comes_ends_the_start_with_its_name(task, tmp_path):
    first, *others = map(task, range(5))
    for of in (first, *others[:3]):
        of.sign()
    others[0].sign()  # twice, as where srun tries again
    why = first.overdue(901)
    assert why == "only 4 of 5 ranks are here; missing: n7, after 900 s (slurm.start_seconds)"
    assert [others[0].overdue(seconds) for seconds in (901, 1139)] == ["", ""], "the first is to say it"
    assert others[0].overdue(1141) == why
    (tmp_path / "12_0_log.err").write_text(f"hpcens: {why}\n")
    verdict = postmortem.explain(Answer("FAILED"), str(tmp_path), None)
    assert "n7" in verdict.reason and "not all of the job's ranks came: 4 of 5" in verdict.reason
    assert "exclude" in verdict.remedy
    complaint = "slurmstepd-n2: error: mpi/pmi2: invalid client request"
    (tmp_path / "12_n2_0.log").write_text(f"0: {complaint}\n0: hpcens: {why}\n")
    assert postmortem.explain(Answer("FAILED"), str(tmp_path), None).reason == verdict.reason, "what ended it"


def test_ranks_that_are_all_here_and_find_no_world_are_told_of_srun(task, tmp_path):
    everyone = list(map(task, range(5)))
    for of in everyone:
        of.sign()
    assert everyone[0].overdue(700) == "" == everyone[0].overdue(815)
    assert not (tmp_path / "stillborn").exists()
    assert "all 5 ranks came, but found no MPI world within 120 s: srun --mpi" in everyone[0].overdue(830)
    assert (tmp_path / "stillborn" / "12.0").exists(), "they are started again"


def test_a_disk_that_refuses_does_not_stop_a_rank(task, tmp_path):
    (tmp_path / "arrived").write_text("in the way")
    task(1).sign()
    assert task(0).overdue(30) == ""


def test_numbers_of_tasks_are_read_as_slurm_writes_them():
    assert tasks_per_node("6(x2),4") == [6, 6, 4] and tasks_per_node("3") == [3] and tasks_per_node("") == []


@pytest.mark.parametrize(
    ("codes", "noted", "ends"), [("7 0", True, 0), ("7 9 0", True, 0), ("7 9 5", True, 5), ("7 0", False, 7)]
)
def test_ranks_that_died_before_they_found_each_other_are_started_again(task, tmp_path, codes, noted, ends):
    """Story: a chance failure of MPI_Init cost a big job its place at the head of the queue."""
    call = task(3)
    call.note_death()
    assert not (tmp_path / "stillborn").exists(), "it had not come"
    call.sign()
    if noted:
        call.note_death()
    mark = tmp_path / "stillborn" / "12.0"
    (tmp_path / "srun").write_text(
        f'#!/bin/sh\ncd {tmp_path}\necho "$HPCENS_STARTED_AGAIN $*" >> asked\nset -- {codes}\n'
        f'shift $(($(wc -l < asked) - 1))\n[ {int(noted)} = 0 ] || [ "$1" = 0 ] || touch {mark}\nexit $1\n'
    )
    (tmp_path / "srun").chmod(0o755)
    environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_JOB_ID": "12"}
    script = f"set -eu\n{roll_call.again(tmp_path)}\nsrun --label 'a b'"
    ended = subprocess.run(["bash", "-c", script], env=environment, capture_output=True, text=True)
    assert ended.returncode == ends, ended.stderr
    starts = len(codes.split()) if noted else 1
    assert (tmp_path / "asked").read_text().splitlines() == [f"{n} --label a b" for n in ("", 1, 2)][:starts]
    assert ended.stderr.count("they are started again") == starts - 1
    assert (tmp_path / "arrived" / "12.0").exists() == (starts == 1)
