"""Devices of a reader's host read its rows where they lie, and GPUs send them from there."""

import threading
from types import SimpleNamespace

import numpy as np
import pytest
from support.engines import Cuda

from hpcens.engine import Guard
from hpcens.scoring.device_post import DevicePost
from hpcens.scoring.posts import ReaderPost
from hpcens.scoring.sharing import Sharing, share_rows
from hpcens.transports.ring import Rings, make_ring

ROWS = np.arange(24, dtype=np.float32).reshape(4, 6)


class World:
    """Rank 0, a reader, and devices, as threads."""

    def __init__(self, rank, barrier, values):
        self.rank, self._barrier, self._values, self.rings = rank, barrier, values, Rings()

    def gather(self, value):
        self._values[self.rank] = value
        self._barrier.wait(20)
        gathered = list(self._values) if self.rank == 0 else []
        self._barrier.wait(20)
        return gathered

    def broadcast(self, value=None, to=None):
        if self.rank == 0:
            self._values[0] = value
        self._barrier.wait(20)
        given = self._values[0]
        self._barrier.wait(20)
        return given if to is None or self.rank in (0, *to) else None

    def work(self, task):
        return task()


def reader(ring):
    post = object.__new__(ReaderPost)
    post.slotted = SimpleNamespace(make_ring=lambda most: ring)
    return post


def device(card):
    post = object.__new__(DevicePost)
    post._device, post._engine = SimpleNamespace(name="n0/cuda0"), SimpleNamespace(hardware=card.hardware)
    post._guard = Guard(card.hardware)
    return post


def share(posts):
    barrier, values = threading.Barrier(len(posts)), [None] * len(posts)
    worlds = [World(rank, barrier, values) for rank in range(len(posts))]
    told = [None] * len(posts)

    def run(rank):
        told[rank] = share_rows(worlds[rank], posts[rank])

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(len(posts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return worlds, told[0]


@pytest.mark.parametrize("registers", [True, False])
def test_a_gpu_sends_rows_from_the_readers_memory_where_that_can_be_registered(registers):
    card, ring = Cuda(), make_ring(2, ROWS.nbytes, 1 << 20)
    card.api.registers = registers
    post = device(card)
    worlds, sharing = share([reader(ring), post])
    why = "n0/cuda0 (cudaHostRegister: OS call failed or operation not supported on this OS)"
    assert sharing == Sharing(1, () if registers else (why,)) and post.shares == {0}
    slot = ring.slot(1)[: ROWS.nbytes].view(np.float32).reshape(ROWS.shape)
    slot[...] = ROWS
    [place] = worlds[0].rings.places(1, [slot])
    rows = worlds[1].rings.at(0, place, ROWS.shape, "<f4")
    assert (card.hardware.receive(card.hardware.stage(rows)).numpy() == ROWS).all()
    assert len(card.api.pinned) == (not registers) and card.api.waited == 0
    assert len(card.api.registered) == registers
    post.leave()
    assert card.api.registered == {}


def test_without_a_ring_nobody_shares():
    assert share([reader(None), device(Cuda())])[1] == Sharing()
