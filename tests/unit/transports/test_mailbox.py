"""Answers between the threads of a rank: none is lost, and no wait outlasts its time."""

import threading

import pytest

from hpcens.transports.bells import Bells
from hpcens.transports.mailbox import Mailbox


@pytest.fixture
def answers():
    bells = Bells()
    yield Mailbox(bells)
    bells.close()


def test_a_wait_ends_though_its_time_is_over_before_it_begins(answers):
    """Story: the thread loses its core between two steps of a wait of 1 ns; a queue.SimpleQueue now waits for ever."""
    rounds = []

    def go():
        for i in range(2000):
            assert answers.take(1e-9) == []
            answers.put(i)
            while not (taken := answers.take(1e-9)):
                pass
            rounds.append(taken)

    thread = threading.Thread(target=go, daemon=True)
    thread.start()
    thread.join(60)
    assert not thread.is_alive(), f"a wait never ended, after {len(rounds)} rounds"
    assert rounds == [[i] for i in range(2000)]


def test_every_answer_arrives_once_and_in_order_of_its_thread(answers):

    def answering(name):
        for i in range(2000):
            answers.put((name, i))

    threads = [threading.Thread(target=answering, args=(name,)) for name in "abc"]
    for thread in threads:
        thread.start()
    taken = []
    while len(taken) < 6000:
        taken += answers.take(50e-6)
    for name in "abc":
        assert [i for of, i in taken if of == name] == list(range(2000))


def test_an_answer_wakes_whoever_waits(answers):
    waiting = threading.Event()

    def wait():
        waiting.set()
        taken.extend(answers.take(60))

    taken = []
    thread = threading.Thread(target=wait)
    thread.start()
    waiting.wait()
    answers.put("now")
    thread.join(30)
    assert taken == ["now"]
