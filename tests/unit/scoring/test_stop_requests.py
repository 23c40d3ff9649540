"""A start is asked to stop by signals and by a file, and is drained once."""

import contextlib
import faulthandler
import os
import signal
import time
from functools import partial

import pytest

from hpcens.runs import DrainBegan, Events, read_events
from hpcens.runs.cancellation import asked_to_end
from hpcens.scoring.stop_requests import StopRequests
from hpcens.vocabulary import Drain


@pytest.fixture
def stop():
    """Catches signals while the test runs."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2)
    before = {number: signal.getsignal(number) for number in numbers}
    stop = StopRequests()
    stop.catch_signals()
    yield stop
    for number, handler in before.items():
        signal.signal(number, handler)
    faulthandler.unregister(signal.SIGUSR1)


def test_a_signal_drains_once_and_all_are_kept(stop):
    assert stop.notice() is None
    os.kill(os.getpid(), signal.SIGUSR2)
    assert stop.notice() == Drain("stopped by SIGUSR2")
    os.kill(os.getpid(), signal.SIGTERM)
    assert stop.notice() is None
    assert stop.signals == [signal.SIGUSR2, signal.SIGTERM]


def test_a_limit_that_is_near_warns_though_its_signal_came_too_early_to_be_heard(stop):
    ends = [time.time() + 500.0]
    stop.expect_limit(time.time() + 50, 90, lambda: ends[0])
    assert stop.notice() is None, "the limit was moved since the job began"
    ends[0] = 0.0
    assert stop.notice() is None, "it is not asked again before"
    stop.expect_limit(time.time() + 50, 90, lambda: 0.0)
    assert stop.notice() == Drain("stopped by SIGUSR2")
    assert stop.signals == [signal.SIGUSR2] and stop.notice() is None


def test_a_limit_that_nobody_knows_warns_of_nothing(stop):
    stop.expect_limit(0.0, 90, lambda: 0.0)
    assert stop.notice() is None


@pytest.mark.parametrize(("text", "reason"), [("stopped by Ada\n", "stopped by Ada"), ("", "cancelled")])
def test_the_cancel_file_drains_and_the_event_says_why(tmp_path, stop, text, reason):
    (tmp_path / "cancel").write_text(text)
    assert stop.notice() is None, "only rank 0 looks for the file"
    with contextlib.closing(Events(tmp_path / "events.jsonl")) as events:
        stop.watch(partial(asked_to_end, tmp_path / "cancel", {"7"}), events)
        assert stop.notice() == Drain(reason)
        assert stop.notice() is None
    [(_, event)] = read_events(tmp_path / "events.jsonl")
    assert isinstance(event, DrainBegan) and event.reason == reason
