"""A run directory whose files are of format 1, which did not say so, is read as one of today's."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from hpcens.processes import Process
from hpcens.runs import (
    Claim,
    DrainBegan,
    InstanceReport,
    MaskedRows,
    PlanMade,
    ProfilingBegan,
    ProfilingEnded,
    ProgressMade,
    RankReport,
    Report,
    RunDirectory,
    Signature,
    SlurmJob,
    Submission,
    Verdict,
    WorldFormed,
    read_events,
    signatures,
)
from hpcens.runs.requeue import Requeue
from hpcens.runs.status import status
from hpcens.scheduler.jobs import Answer
from hpcens.vocabulary import Plan

JOB = SlurmJob("7", "c", 0, "1f2e3d4c")
PROCESS = Process("n1", "6b0b52c3-2f6b-4b9b-9d06-6a3b5a0a9a51", 1018, 109471)
REPORT = Report(
    rows=400,
    seconds=2.0,
    rows_per_second=200.0,
    predicted_rows_per_second=150.0,
    instances=(
        InstanceReport("n1/cpu0", "m0", 16, "eager", 200.0, 100.0, 0, 400, 160.0),
        InstanceReport("n1/cpu1", "m0", 16, "eager", 200.0, 50.0, 1),
        InstanceReport("n1/cpu1", "m1", 32, "frozen", 300.0, 150.0, 1, 240, 240.0),
    ),
    bottleneck="device: busy 88 % of the time",
    syncing_share=0.125,
    idle=("n2/cuda0",),
    ranks=(
        RankReport("reader", {"wait for input": 1.5, "Read": 0.25}, 0.0, 0.5, 1 << 20),
        RankReport("reducer", {"Write": 0.5, "Flush": 0.25}, 0.25, 0.75, 2 << 20),
        RankReport("device n1/cpu0", {"Predict": 1.75}, 0.0, 2.0, 3 << 20),
        RankReport("parked", {}, 0.0, 0.1, 1 << 19),
    ),
    masked=(MaskedRows("m0", "input", 3, 17),),
)


@pytest.fixture
def run(tmp_path):
    shutil.copytree(Path(__file__).with_name("format-1"), tmp_path / "x.run")
    return RunDirectory(tmp_path / "x.run")


def test_events(run):
    assert [event for _, event in read_events(run.newest.events)] == [
        WorldFormed("MPICH Version: 4.2.2", {"n1": 3, "n2": 1}, True, ("n2/cuda0",), time=1700000003.0),
        ProfilingBegan(3, time=1700000004.0),
        ProfilingEnded(time=1700000005.0),
        PlanMade(150.0, 160.0, "member m1 on cpu×1 A devices", time=1700000006.0),
        ProgressMade(0, 400, 0, 1, 2, time=1700000007.0),
        ProgressMade(400, 400, 0, 1, 2, time=1700000008.0),
        ProgressMade(160, 400, 5, 2, 2, time=1700000009.0),
        DrainBegan("stopped by SIGUSR2", time=1700000010.0),
        ProgressMade(240, 400, time=1700000011.0),
    ]


def test_report(run):
    path = run.newest.report
    assert Report.load(path) == REPORT
    path.write_text(REPORT.to_json())
    assert Report.load(path) == REPORT, "and as it is written now"
    assert '"format": 3,' in path.read_text()
    path.write_text(REPORT.to_json().replace('"format": 3', '"format": 4'))
    assert Report.load(path) is None, "a later format is for later code"
    path.write_text(REPORT.to_json()[:-9])
    assert Report.load(path) is None, "nor is what is not whole"


def test_claim_and_signatures(run):
    epoch = run.newest
    claim = Claim(1, "6386458bdffe4d04", 1700000002.0, JOB, PROCESS)
    assert Claim.load(epoch.claim) == claim
    for job in (JOB, None):
        epoch.claim.write_text(replace(claim, job=job).to_json())
        assert Claim.load(epoch.claim) == replace(claim, job=job)
    epoch.claim.unlink()
    assert Claim.load(epoch.claim) is None
    assert signatures(epoch) == [Signature(0, "reader", PROCESS), Signature(2, "device n1/cpu0", PROCESS)]


def test_verdict_requeue_and_submission(run):
    epoch = run.newest
    reason = "the time limit is near: 240 of 400 rows are durable in phase 2 of 2"
    remedy = "none needed: the job continues by itself (requeue 1 of 10)"
    assert epoch.verdict == Verdict(75, reason, remedy, 0, "reader")
    assert Requeue.load(epoch.requeue) == Requeue(JOB, "the time limit is near", 1700000012.0)
    folder = "/data/earlier.run/submitit/1f2e3d4c"
    submission = Submission(id="1f2e3d4c", jobs=("7", "8"), requeues=10, folder=folder, epoch=0, submitted=1700000001.0)
    assert run.submission == submission
    run.keep(submission)
    assert run.submission == submission


def test_plan(run):
    plan = Plan.load(run.newest.plan)
    assert [(i.device, i.member, i.batch, i.phase) for i in plan.instances] == [
        ("n1/cpu0", "m0", 16, 0),
        ("n1/cpu1", "m0", 16, 1),
        ("n1/cpu1", "m1", 32, 1),
    ]


def test_status(run):
    pending = Answer("PENDING", name="hpcens-x-1f2e3d4c")
    shown = status(run.path, ask=lambda run, jobs, within: dict.fromkeys(jobs, pending))
    assert (shown.state, shown.requeues) == ("requeued", ["the time limit is near"])
    assert (shown.rows, shown.of, shown.rows_per_second) == (240, 400, 200.0)
    assert shown.limited_by == "member m1 on cpu×1 A devices"
