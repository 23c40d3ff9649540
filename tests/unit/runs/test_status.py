"""How a run stands, by its files and by what Slurm answers; no Slurm is needed."""

import json
import time
from dataclasses import replace

import pytest

from hpcens.cli.runs import status_lines
from hpcens.errors import INCOMPLETE
from hpcens.processes import Process
from hpcens.runs import (
    AGAIN,
    Claim,
    DrainBegan,
    Events,
    PlanMade,
    ProfilingBegan,
    ProgressMade,
    RunDirectory,
    Submission,
    Verdict,
    WorldFormed,
    recent,
)
from hpcens.runs.status import status
from hpcens.scheduler.jobs import Answer


@pytest.fixture
def run(tmp_path):
    run = RunDirectory(tmp_path / "x.run")
    run.path.mkdir()
    return run


def write(epoch, *events):
    """Add events to a start."""
    writer = Events(epoch.events)
    for event in events:
        writer.add(event)
    writer.close()


def order(epoch, rows):
    """Leave what the launcher leaves for the ranks, as far as the status reads it."""
    epoch.job.write_text(json.dumps({"job": "", "preflight": json.dumps({"facts": {"rows": rows}})}))


def test_status_of_a_long_run_is_read_from_the_ends_of_its_files(run):
    epoch = run.begin()
    lines = (json.dumps({"time": i, "event": "progress", "rows": i + 1, "of": 100_000}) for i in range(100_000))
    epoch.events.write_text("\n".join(lines) + "\n")
    epoch.claim.write_text(Claim(1, "id", time.time() - 10, None, Process("h", "", 0, 1)).to_json())
    epoch.judge(Verdict(INCOMPLETE, "cancelled", AGAIN))
    asked = []
    size = epoch.events.stat().st_size
    found = status(run.path, ask=lambda run, jobs, within: asked.append(jobs) or {})
    assert (found.rows, found.state, asked) == (100_000, "resumable", [])
    assert size > 1 << 22
    assert len(recent(epoch.events)) < 1000


def test_a_start_that_lives_is_told_by_what_it_is_at(run):
    epoch = run.begin()
    order(epoch, 800)
    found = status(run.path)
    assert (found.state, found.of, found.reason) == ("running", 800, "its ranks find each other")
    for event, says in (
        (WorldFormed("mpi", {}, False, ()), "plan"),
        (ProfilingBegan(1), "measure the members"),
        (PlanMade(1.0, 1.0, ""), "load the members"),
    ):
        write(epoch, event)
        assert says in status(run.path).reason
    write(epoch, ProgressMade(16, 800))
    found = status(run.path)
    assert found.rows == 16 and "is alive" in found.reason and not any("GPU" in line for line in status_lines(found))
    write(epoch, ProgressMade(16, 800, broken=("GPU 7 of n0 failed: ECC",), taken=1))
    says = "warning: GPU 7 of n0 failed: ECC; others took over 1 row, counted once for each member"
    assert says in list(status_lines(status(run.path)))
    write(epoch, DrainBegan("cancelled"), ProgressMade(32, 800))
    assert status(run.path).reason == "draining: cancelled"


def test_a_queued_job_is_asked_for_and_one_of_another_cluster_is_not_believed(run):
    run.keep(Submission(id="abcd", jobs=("7",), requeues=1, folder=str(run.path), epoch=0, submitted=0.0))
    pending = Answer("PENDING", "Priority", name="hpcens-x-abcd")
    other = replace(pending, name="hpcens-x-ffff")
    assert status(run.path, ask=lambda run, jobs, within: {"7": pending}).state == "queued"
    assert status(run.path, ask=lambda run, jobs, within: {"7": other}).state == "failed"
    assert status(run.path, ask=lambda run, jobs, within: {"7": None}).state == "unknown"


def test_figures_are_of_the_progress_counted_over_all_phases(run):
    """Half of the second of two phases after 30 s; of the last 10 s, a row a second."""
    epoch = run.begin()
    write(
        epoch,
        ProgressMade(0, 100, phases=2, time=1000.0),
        ProgressMade(100, 100, phases=2, time=1015.0),
        ProgressMade(41, 100, phase=2, phases=2, time=1021.0),
        ProgressMade(50, 100, phase=2, phases=2, time=1030.0),
    )
    shown = status(run.path)
    assert (shown.state, shown.rows, shown.of, shown.phase, shown.phases) == ("running", 50, 100, 2, 2)
    assert shown.rows_per_second == pytest.approx(150 / 30)
    assert shown.rows_per_second_now == pytest.approx(1.0)
    assert shown.seconds_left == pytest.approx(50 / 5)
    epoch.judge(Verdict(INCOMPLETE, "cancelled", AGAIN))
    shown = status(run.path)
    assert (shown.seconds_left, shown.rows_per_second_now) == (None, 0.0)


def test_a_first_progress_counts_from_the_claim_and_a_plan_tells_the_limit(run):
    epoch = run.begin()
    began = Claim.load(epoch.claim).began
    epoch.plan.write_text(json.dumps({"limit": "member a"}))
    write(epoch, ProgressMade(20, 100, time=began + 4))
    shown = status(run.path)
    assert (shown.rows_per_second, shown.limited_by) == (pytest.approx(5.0), "member a")


def test_a_submission_that_was_cut_off_is_no_start(run):
    run.keep(Submission(id="abcd", jobs=(), requeues=1, folder=str(run.path), epoch=0, submitted=0.0))
    shown = status(run.path)
    assert (shown.state, shown.code, shown.epoch, shown.rows) == ("not submitted", 2, 0, 0)
    assert shown.reason == "submit ended before Slurm had taken the job"
