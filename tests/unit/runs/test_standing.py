"""What Slurm does with a run's jobs after a start ended, and what is said of jobs that wait; no Slurm is needed."""

import json
import time

import pytest
from support.fake_slurm import FakeSlurm

from hpcens.cli import main
from hpcens.cli.runs import status_lines
from hpcens.processes import Process
from hpcens.runs import (
    AGAIN,
    Claim,
    Events,
    Finding,
    ProgressMade,
    RunDirectory,
    SlurmJob,
    Submission,
    Verdict,
    digest_of_fingerprint,
    sign,
)
from hpcens.runs.cancellation import asked_to_end
from hpcens.runs.requeue import Requeue
from hpcens.runs.scheduler_answer import forget
from hpcens.runs.status import status

NAME = "hpcens-x-abcd"
FAILED = Verdict(1, "node n2 gave no sign of life", AGAIN)


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = RunDirectory(tmp_path / "x.run")
    run.own()
    return run


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    return FakeSlurm(tmp_path / "slurm", monkeypatch)


def submitted(run, *jobs, epoch=0, **more):
    run.keep(
        Submission(
            id="abcd", jobs=jobs, requeues=1, folder=str(run.path), epoch=epoch, submitted=time.time() - 60, **more
        )
    )


def start(run, job, *, verdict=None, rows=None):
    """Begin a start in a job of the submission, as far as it is given."""
    epoch = run.begin(SlurmJob(job, "c", 0, "abcd"), order=json.dumps({"preflight": '{"facts": {"rows": 4000}}'}))
    if rows is not None:
        writer = Events(epoch.events)
        writer.add(ProgressMade(rows, 4000))
        writer.close()
    if verdict:
        epoch.judge(verdict)
    return epoch


def shown(run):
    forget(run)
    return status(run.path)


@pytest.mark.parametrize(
    ("queue", "state", "says", "code"),
    [
        ([("7", "PENDING", "BeginTime", NAME, 1)], "requeued", "no sign of life; job 7 waits: BeginTime", None),
        ([("7", "RUNNING", "None", NAME, 1)], "running", "no sign of life; job 7 starts on n1", None),
        ([("7", "COMPLETING", "None", NAME)], "failed", "node n2 gave no sign of life", None),
        ([("7", "FAILED", "NonZeroExitCode", NAME)], "failed", "node n2 gave no sign of life", 1),
        ([("7", "PENDING", "Priority", "hpcens-x-ffff", 1)], "failed", "node n2 gave no sign of life", 1),
        ([], "failed", "node n2 gave no sign of life", 1),
    ],
)
def test_a_start_that_ended_is_told_with_what_slurm_does_with_its_job(run, slurm, queue, state, says, code):
    """What Slurm puts back goes on by itself; a job that still ends is no reason to wait, and not the end either."""
    submitted(run, "7")
    start(run, "7", verdict=FAILED)
    slurm.has(*queue)
    found = shown(run)
    assert (found.state, found.code) == (state, code) and says in found.reason
    assert (found.remedy == AGAIN) == (state == "failed")


def test_a_job_behind_it_takes_over_unless_the_run_was_cancelled(run, slurm):
    submitted(run, "7", "8")
    epoch = start(run, "7", verdict=FAILED)
    slurm.has(("7", "COMPLETING", "None", NAME), ("8", "PENDING", "Dependency", NAME))
    found = shown(run)
    assert (found.state, found.code) == ("requeued", None) and "job 8 waits: Dependency" in found.reason
    slurm.has(("7", "FAILED", "None", NAME), ("8", "RUNNING", "None", NAME))
    assert "job 8 starts on n1" in shown(run).reason
    run.cancel.write_text(json.dumps({"reason": "cancelled", "names": ["abcd"]}))
    assert (shown(run).state, shown(run).code) == ("failed", 1)
    (epoch.folder / "verdict.json").write_text(json.dumps({"code": 0, "reason": "done"}))
    run.cancel.unlink()
    assert (shown(run).state, shown(run).code) == ("complete", 0)


def test_a_start_that_put_its_job_back_waits_for_it(run, slurm):
    submitted(run, "7")
    epoch = start(run, "7", verdict=Verdict(75, "the time limit is near", "none needed"))
    epoch.requeue.write_text(Requeue(SlurmJob("7", "c", 0, "abcd"), "limit", 0.0).to_json())
    slurm.has(("7", "COMPLETING", "None", NAME))
    assert (shown(run).state, shown(run).reason) == ("requeued", "job 7 goes back into the queue")
    slurm.has(("7", "PENDING", "BeginTime", NAME, 1, 3600))
    found = shown(run)
    assert (found.state, found.reason, found.code) == ("requeued", "job 7 waits: BeginTime", None)


def test_a_start_without_a_verdict_whose_job_waits_again_is_requeued(run, slurm):
    """A node went down with all of its ranks."""
    submitted(run, "7")
    epoch = start(run, "7")
    epoch.claim.write_text(Claim(1, "i", 0.0, SlurmJob("7", "c", 0, "abcd"), Process("h", "", 0, 1)).to_json())
    slurm.has(("7", "PENDING", "BeginTime", NAME, 1))
    found = shown(run)
    assert found.state == "requeued" and "epoch 1 ended: it left no verdict; job 7 waits" in found.reason
    slurm.has(("7", "SUSPENDED", "None", NAME))
    found = shown(run)
    assert (found.state, found.code) == ("running", None) and "job 7 is suspended" in found.reason
    slurm.has(("7", "RUNNING", "None", NAME))
    assert (shown(run).state, shown(run).code) == ("failed", None), "Slurm may yet put it back"
    slurm.has(("7", "NODE_FAIL", "None", NAME))
    assert (shown(run).state, shown(run).code) == ("resumable", 75)


def test_rows_of_earlier_starts_count_until_a_start_makes_its_own(run, slurm):
    submitted(run, "7")
    start(run, "7", verdict=FAILED, rows=1312)
    epoch = run.begin(SlurmJob("7", "c", 1, "abcd"), order=json.dumps({"preflight": '{"facts": {"rows": 4000}}'}))
    slurm.has(("7", "RUNNING", "None", NAME, 1))
    found = shown(run)
    assert (found.state, found.epoch, found.rows, found.of, found.rows_per_second) == ("running", 2, 1312, 4000, 0.0)
    writer = Events(epoch.events)
    writer.add(ProgressMade(1412, 4000, time=Claim.load(epoch.claim).began + 10))
    writer.close()
    assert (shown(run).rows, shown(run).rows_per_second) == (1412, pytest.approx(10.0))
    (run.path / "void").mkdir()
    fingerprint = {"a": 1}
    run.fingerprint.write_text(json.dumps(fingerprint))
    Finding("m", "frozen", digest_of_fingerprint(fingerprint), 1.0).save(run.path)
    epoch.events.unlink()
    assert shown(run).rows == 0  # what was scored is void


def test_a_job_that_waits_says_since_when_until_when_and_whether_it_passes(run, slurm, capsys):
    submitted(run, "7", rows=4000)
    slurm.has(("7", "PENDING", "Priority", NAME, 0, 7200))
    found = shown(run)
    assert (found.state, found.rows, found.of, found.stuck) == ("queued", 0, 4000, False)
    assert found.starts_in_seconds == pytest.approx(7200, abs=5) and found.waiting_seconds < 5
    lines = list(status_lines(found))
    assert (
        lines[0].startswith("queued: 0 of 4,000 rows") and "expected to start in 2:00:0" in lines[1]
    ) or "1:59" in lines[1]
    slurm.has(("7", "PENDING", "PartitionNodeLimit", NAME))
    found = shown(run)
    assert found.stuck and found.reason == "job 7 waits: PartitionNodeLimit, which does not pass by itself"
    assert "--slurm nodes=" in found.remedy and found.starts_in_seconds is None


def test_what_slurm_refused_is_told_and_what_was_submitted_before_stays(run, slurm, monkeypatch):
    submitted(run, refused="sbatch refused the job: invalid partition")
    found = shown(run)
    assert (found.state, found.code, found.reason) == ("not submitted", 2, "sbatch refused the job: invalid partition")
    assert main(["status", "x.run", "--watch"]) == 2


def test_watch_and_wait_end_with_the_code_of_the_verdict(run, slurm, tmp_path, capsys, monkeypatch):
    submitted(run, "7")
    start(run, "7", verdict=FAILED)
    other = RunDirectory(tmp_path / "y.run")
    other.own()
    other.begin().judge(Verdict(75, "cancelled", AGAIN))
    queues = [[("7", "PENDING", "JobHeldUser", NAME, 1)], [("7", "FAILED", "None", NAME, 1)]]
    sleep = time.sleep

    def goes_on(seconds):
        if seconds < 1:
            sleep(seconds)
        else:
            forget(run)
            slurm.has(*queues.pop(0))

    monkeypatch.setattr(time, "sleep", goes_on)
    slurm.has(*queues.pop(0))
    assert main(["wait", "x.run", "y.run"]) == 1
    out, error = capsys.readouterr()
    assert out.splitlines() == [
        f"resumable: cancelled → y.run; next: {AGAIN}",
        f"failed: node n2 gave no sign of life → x.run; next: {AGAIN}",
        "2 runs: 1 resumable, 1 failed",
    ]
    assert "x.run: " in error and "scontrol release 7" in error
    assert main(["status", "y.run", "--watch"]) == 75
    assert main(["wait", "y.run"]) == 75
    assert main(["wait", "nothing.run"]) == 2


def test_list_shows_runs_that_wait_and_asks_slurm_once(run, slurm, tmp_path, capsys):
    for number, name in (("7", "a"), ("8", "b"), ("9", "c")):
        made = RunDirectory(tmp_path / f"{name}.run")
        made.path.mkdir()
        submitted(made, number, rows=10)
    slurm.has(("7", "PENDING", "Priority", NAME), ("8", "RUNNING", "None", NAME))
    assert main(["list"]) == 0
    *lines, last = capsys.readouterr().out.splitlines()
    assert last == "3 runs: 1 queued, 1 running, 1 failed"
    assert [(line.split()[0], line.split()[-1]) for line in lines] == [
        ("state", "run"),
        ("queued", "a.run"),
        ("running", "b.run"),
        ("failed", "c.run"),
    ]
    assert [line.split()[0] for line in slurm.asked] == ["squeue", "sacct"]
    assert "-j 9" in slurm.asked[1]
    assert main(["list"]) == 0
    assert len(slurm.asked) == 2


def test_cancel_ends_what_waits_behind_and_lets_the_job_that_took_over_drain(run, slurm, capsys):
    submitted(run, "7", "8", "9")
    start(run, "7", verdict=FAILED)
    start(run, "8")  # this very process
    slurm.has(("7", "FAILED", "", NAME), ("8", "RUNNING", "None", NAME), ("9", "PENDING", "Dependency", NAME))
    status(run.path)
    assert main(["cancel", "x.run"]) == 0
    assert "draining" in capsys.readouterr().out
    assert [line for line in slurm.asked if line.startswith("scancel")] == ["scancel 9"]
    assert asked_to_end(run.cancel, {"abcd"}) == "cancelled"
    assert not (run.path / "controller.json").exists()


def test_cancel_leaves_jobs_of_the_same_ids_on_a_new_cluster_alone(run, slurm, capsys):
    submitted(run, "7", "8")
    slurm.has(("7", "PENDING", "None", "somebody-else"), ("8", "PENDING", "Priority", NAME))
    assert main(["cancel", "x.run"]) == 0
    assert [line for line in slurm.asked if line.startswith("scancel")] == ["scancel 8"]


def test_logs_are_shown_with_roles_a_log_a_node(run, slurm, capsys):
    submitted(run, "7")
    epoch = start(run, "7", verdict=FAILED)
    sign(epoch, 10, "device n2/cpu0")
    (run.path / "7_n2_0.log").write_text("10: out of memory\n11: x: y\n")
    (run.path / "7_n10_0.log").write_text("Traceback\n")
    (run.path / "7_script.log").write_text("12: srun is unhappy\n")
    (run.path / "6_3_log.err").write_text("an earlier version\n")
    assert main(["logs", "x.run"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        *("==> x.run/6_3_log.err", "rank 3: an earlier version"),
        *("==> x.run/7_n2_0.log", "rank 10 (device n2/cpu0): out of memory", "rank 11: x: y"),
        *("==> x.run/7_n10_0.log", "Traceback"),
        *("==> x.run/7_script.log", "12: srun is unhappy"),
    ]
