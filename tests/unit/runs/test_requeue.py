"""Which jobs put themselves back into the queue, why, and what that leaves in the run directory."""

import signal
import time
from contextlib import closing
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from hpcens.errors import COMPLETE, INCOMPLETE
from hpcens.runs import AGAIN, Events, ProfilingEnded, ProgressMade, RunDirectory, SlurmJob, Verdict
from hpcens.runs.requeue import Requeue, carry_out, continues, decide, interpret, outcome, requeues, why
from hpcens.runs.status import status
from hpcens.scheduler import jobs
from hpcens.scheduler.jobs import Answer

DRAINED = Verdict(INCOMPLETE, "stopped by SIGUSR2: 3 of 9 rows are durable", "run the same command again to continue")


@given(
    st.lists(st.sampled_from([signal.SIGUSR2, signal.SIGTERM, signal.SIGINT])),
    st.sampled_from(["", "preempted", "cancelled", "the time limit is near"]),
    st.integers(0, 5),
    st.integers(0, 5),
)
def test_only_a_warned_and_drained_job_requeues_itself_and_only_so_often(signals, reason, before, bound):
    verdict, again = decide(DRAINED, signals, reason, before, bound)
    warned = signal.SIGUSR2 in signals or reason == "preempted"
    assert again == (warned and before < bound)
    assert verdict.code == INCOMPLETE
    assert decide(Verdict(COMPLETE, "done"), signals, reason, before, bound) == (Verdict(COMPLETE, "done"), False)
    assert (f"requeued {before} times already" in verdict.reason) == (warned and before >= bound)


def test_a_job_that_gains_nothing_in_two_starts_is_not_put_back_a_third_time(tmp_path, monkeypatch):
    """Story: a job whose limit was too short for a start drained, requeued itself ten times, and scored nothing."""
    run = RunDirectory(tmp_path / "out.run")
    monkeypatch.setattr(jobs, "requeue", lambda job: "")
    monkeypatch.setattr(jobs, "ask", lambda job: Answer("RUNNING", ends=time.time() + 60))
    ends = []

    def start(job, *events):
        epoch = run.begin(job)
        with closing(Events(epoch.events)) as log:
            for event in events:
                log.add(event)
        verdict, reason = interpret(run, job, DRAINED, [signal.SIGUSR2])
        ends.append(bool(reason))
        if reason:
            carry_out(epoch, job, reason)
        return epoch.judge(verdict)

    job = SlurmJob("7", "c", 0, "s")
    start(job, ProgressMade(0, 9))
    start(job, ProgressMade(0, 9), ProgressMade(3, 9))
    start(job, ProgressMade(3, 9))
    start(job, ProfilingEnded())
    start(job)
    last = start(job, ProgressMade(3, 9), ProgressMade(3, 9))
    start(replace(job, submission="t"), ProgressMade(3, 9))
    assert ends == [True, True, True, True, True, False, True]
    assert "two starts in a row ended without a new durable row" in last.reason and "time=" in last.remedy
    assert decide(DRAINED, [signal.SIGTERM], "preempted", 1, 9, fruitless=True)[1], "which is not the limit's doing"


def test_why_a_job_was_asked_to_stop():
    running = Answer("RUNNING", ends=time.time() + 60)
    assert why([signal.SIGUSR2], running) == "the time limit is near"
    assert why([signal.SIGUSR2], replace(running, preempted=True)) == "preempted"
    assert why([signal.SIGTERM], replace(running, preempted=True)) == "preempted"
    assert why([signal.SIGTERM], Answer("CANCELLED")) == "cancelled"
    assert why([signal.SIGTERM], None) == ""


def test_a_start_succeeds_those_of_its_own_job_alone():
    first = SlurmJob("7", "c", 0, "x")
    assert SlurmJob("7", "c", 1, "x").succeeds(first)
    assert SlurmJob("8", "c", 0, "x").succeeds(first)  # it waited for the first to be killed
    assert not SlurmJob("7", "c", 0, "x").succeeds(first)
    assert not SlurmJob("7", "c", 1, "y").succeeds(first)  # a new cluster counts from 1 again
    assert not SlurmJob("7", "c", 1).succeeds(None)


def test_a_start_whose_job_slurm_refused_to_requeue_says_so_and_what_to_do(tmp_path):
    run = RunDirectory(tmp_path / "out.run")
    epoch = run.begin()
    epoch.judge(Verdict(INCOMPLETE, "the time limit is near", "none needed: the job continues by itself"))
    record = Requeue(SlurmJob("7", "c", 0), "the time limit is near", 0.0)
    epoch.requeue.write_text(record.to_json())
    assert continues(epoch)
    assert outcome(epoch) == epoch.verdict
    epoch.requeue.write_text(replace(record, refused="Job is disabled").to_json())
    assert not continues(epoch)
    shown = status(run.path)
    assert (shown.state, shown.remedy, shown.requeues) == ("resumable", AGAIN, [])
    assert shown.reason == "the time limit is near; Slurm did not requeue it: Job is disabled"


def test_what_is_put_back_is_counted_by_submission_and_what_slurm_refused_is_not(tmp_path, monkeypatch):
    run = RunDirectory(tmp_path / "out.run")
    answers = {"7": "", "8": "Job is disabled", "9": "", "1": ""}
    monkeypatch.setattr(jobs, "requeue", answers.__getitem__)
    for number, submission in (("7", "x"), ("8", "x"), ("9", "x"), ("1", "y")):
        job = SlurmJob(number, "c", 0, submission)
        epoch = run.begin(job)
        assert carry_out(epoch, job, f"job {number}") == answers[number]
        assert Requeue.load(epoch.requeue).job == job
        epoch.judge(DRAINED)
    assert requeues(run) == ["job 7", "job 9", "job 1"]
    assert requeues(run, SlurmJob("7", "c", 1, "x")) == ["job 7", "job 9"]


def test_what_slurm_says_of_a_drain_is_in_the_verdict_and_says_whether_the_job_goes_on(tmp_path, monkeypatch):
    run, job = RunDirectory(tmp_path), SlurmJob("7", "c", 0, "s")
    monkeypatch.setattr(jobs, "ask", lambda job: Answer("RUNNING", preempted=True))
    verdict, reason = interpret(run, job, DRAINED, [signal.SIGTERM])
    assert (verdict.reason, reason) == ("preempted: 3 of 9 rows are durable", "preempted")
    assert verdict.remedy.startswith("none needed")
    monkeypatch.setattr(jobs, "ask", lambda job: Answer("CANCELLED"))
    cancelled, reason = interpret(run, job, DRAINED, [signal.SIGTERM])
    assert (cancelled.reason, reason) == ("cancelled: 3 of 9 rows are durable", "")
    assert cancelled.remedy == DRAINED.remedy
