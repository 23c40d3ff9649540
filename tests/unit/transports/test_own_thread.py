"""A rank's own thread: one for everything, in order, and what is waited for is over."""

import threading

from hpcens.transports.own_thread import OwnThread


def test_everything_is_done_in_order_and_in_one_thread():
    own, seen = OwnThread("rank"), []
    overs = [own.begin(lambda i=i: seen.append((i, threading.get_ident()))) for i in range(50)]
    assert all(over.wait(30) for over in overs)
    assert [i for i, _ in seen] == list(range(50))
    assert len({ident for _, ident in seen}) == 1 and seen[0][1] != threading.get_ident()


def test_a_task_is_not_over_before_its_end():
    own, go = OwnThread("rank"), threading.Event()
    over = own.begin(lambda: go.wait(30))
    assert not over.wait(0.05)
    go.set()
    assert over.wait(30)
