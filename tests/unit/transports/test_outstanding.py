"""Outputs on their way are bounded: a device waits until its reducers have taken what was handed over."""

import threading

import numpy as np

from hpcens.transports import worker_tasks
from hpcens.transports.outstanding import Outstanding
from hpcens.vocabulary import Predict, Predicted

KEPT = []


def answers(count, size):
    """Predictions of so many bytes each, which whoever computed them holds on to."""
    for segment in range(count):
        KEPT.append(np.full(size, segment % 256, np.uint8))
        yield Predicted(segment, "a", KEPT[-1], 8)


def test_who_hands_over_waits_until_as_many_bytes_are_sent():
    outstanding = Outstanding(200)
    counted = outstanding.counted(answers(3, 100))
    sending = [next(counted), next(counted)]
    assert not outstanding.wait(), "two are no more than may be"
    sending.append(next(counted))
    assert [int(answer.values[0]) for answer in sending] == [0, 1, 2]
    waited = []
    waiting = threading.Thread(target=lambda: waited.append(outstanding.wait()), daemon=True)
    waiting.start()
    with outstanding._changed:
        assert not waited
    sending.pop(0)  # another thread has sent it
    waiting.join(60)
    assert waited == [True] and not outstanding.wait()


def test_one_that_is_larger_than_all_that_may_be_is_on_its_way_by_itself():
    outstanding = Outstanding(10)
    counted = outstanding.counted(answers(2, 100))
    sending = [next(counted)]
    assert not outstanding.wait(), "the next is computed meanwhile"
    sending.append(next(counted))
    sending.pop(0)
    assert not outstanding.wait(), "the first is sent"


def test_tasks_of_a_device_are_bounded_unless_they_are_not_to_be():
    for most, bounded in ((50, True), (None, False)):
        tasks = worker_tasks(lambda task: answers(1, 100), lambda task: None, most)
        [sent] = tasks.run(Predict(0, ("a",), (np.zeros((1, 1)),)))
        assert (sent.values is KEPT[-1]) is not bounded and np.shares_memory(sent.values, KEPT[-1])
        assert not tasks.pause()
