"""Following a start: whose verdict counts, what is said of a job that is gone, and what a signal does."""

import os
import signal

import pytest

from hpcens.launch.follow import StopSignals, follow
from hpcens.runs import RunDirectory, Verdict
from hpcens.runs.cancellation import asked_to_end

DRAINED, DONE, GONE = (Verdict(code, text) for code, text in ((75, "drained"), (0, "done"), (1, "gone")))


@pytest.fixture
def run(tmp_path):
    (tmp_path / "x.run").mkdir()
    return RunDirectory(tmp_path / "x.run")


class Job:
    """A job whose life is a list of steps, one taken whenever it is asked whether it is gone."""

    def __init__(self, *steps):
        self.steps = list(steps)

    def gone(self):
        step = self.steps.pop(0)
        return step() if callable(step) else step


def following(run, job, newest=0, verdict=lambda epoch: epoch.verdict):
    seen = []
    told = follow(run, newest, tick=lambda epoch: seen.append(epoch.number), verdict=verdict, gone=job.gone)
    return told, seen


def begin(run, verdict=None):
    def step():
        epoch = run.begin()
        if verdict is not None:
            epoch.judge(verdict)

    return step


def test_a_start_before_the_job_is_not_its_own(run):
    begin(run, DRAINED)()
    assert following(run, Job(None, begin(run), lambda: run.newest.judge(DONE) and None), newest=1) == (DONE, [2, 2])


def test_what_the_job_left_before_its_end_still_counts(run):
    def ends():
        begin(run, DONE)()
        return GONE

    assert following(run, Job(ends)) == (DONE, [1])
    assert following(run, Job(None, GONE), newest=1) == (GONE, [])


def test_a_verdict_that_is_not_the_last_word_is_waited_beyond(run):
    job = Job(begin(run, DRAINED), None, begin(run, DONE))
    assert following(run, job, verdict=lambda epoch: epoch.verdict if epoch.number == 2 else None) == (DONE, [1, 1, 2])
    assert following(run, Job(GONE), newest=1, verdict=lambda epoch: None) == (DONE, [2])


@pytest.mark.parametrize("first", [signal.SIGTERM, signal.SIGHUP])
def test_the_first_signal_drains_the_second_is_returned_and_handlers_come_back(run, first):
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    with StopSignals(run, {"7"}) as stop:
        assert stop.pass_on() is None and not run.cancel.exists()
        os.kill(os.getpid(), first)
        assert stop.pass_on() is None and asked_to_end(run.cancel, {"7"}) == f"stopped by {first.name}"
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.pass_on() == signal.SIGINT and asked_to_end(run.cancel, {"7"}) == f"stopped by {first.name}"
    assert asked_to_end(run.cancel, {"8"}) == ""
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before
