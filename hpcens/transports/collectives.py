"""Collectives: what all ranks do together, without ever blocking in MPI.

A value that rank 0 hands out is pickled once; what of it are arrays is sent from where it lies. Beyond some dozens of
ranks it goes down a tree: each rank passes on what it got, so that no rank sends more than `_FAN` copies.
"""

from __future__ import annotations

import pickle
import time
from collections.abc import Callable, Sequence
from math import inf
from typing import Any

import numpy as np
from mpi4py import MPI

from hpcens.vocabulary import Link

_OBJECT, _HEAD, _BODY = 3, 4, 5
_FAN = 32
_TRIALS, _TRIAL_BYTES = 3, 8 << 20

Hold = Callable[[MPI.Request, object], None]
Wait = Callable[[Callable[[], Any]], Any]


class Collectives:
    """What this rank does with all others.

    hold  keeps a send's buffer until it is through
    wait  makes progress until a question has an answer other than None
    sent  asks whether all sends are through: True, or None
    """

    def __init__(self, comm: MPI.Intracomm, hold: Hold, wait: Wait, sent: Callable[[], bool | None]) -> None:
        self._comm = comm
        self._rank, self._size = comm.Get_rank(), comm.Get_size()
        self._hold = hold
        self._wait = wait
        self._sent = sent

    def gather(self, value: object) -> list[Any]:
        """See `MpiWorld.gather`."""
        if self._rank:
            self._hold(self._comm.isend(value, 0, _OBJECT), value)
            self._wait(self._sent)
            return []
        values: dict[int, Any] = {0: value}

        def complete() -> bool | None:
            for source in range(1, self._size):
                if source not in values and self._comm.Iprobe(source, _OBJECT):
                    values[source] = self._comm.recv(None, source, _OBJECT)
            return True if len(values) == self._size else None

        self._wait(complete)
        return [values[rank] for rank in range(self._size)]

    def broadcast(self, value: Any, to: Sequence[int] | None) -> Any:
        """See `MpiWorld.broadcast`."""
        ranks = list(range(self._size)) if to is None else [0, *sorted(set(to) - {0})]
        if self._rank not in ranks:
            return None
        place = ranks.index(self._rank)
        onward = [ranks[child] for child in children(place, len(ranks))]
        bodies: list[Any] = []
        if place == 0:
            pickled = pickle.dumps(value, 5, buffer_callback=lambda buffer: bodies.append(buffer.raw()))
            head: Any = pickle.dumps((pickled, [len(body) for body in bodies]), 5)
        else:
            head, bodies = self._receive(ranks[(place - 1) // _FAN])
        for rank in onward:
            self._hold(self._comm.Isend([head, MPI.BYTE], rank, _HEAD), head)
            for body in bodies:
                self._hold(self._comm.Isend([body, MPI.BYTE], rank, _BODY), body)
        self._wait(self._sent)
        return value if place == 0 else pickle.loads(pickle.loads(head)[0], buffers=bodies)

    def link(self, to: int) -> Link | None:
        """See `MpiWorld.link`."""
        if self._rank not in (0, to) or not to:
            return None
        small, large = self._trial(to, 1), self._trial(to, _TRIAL_BYTES)
        # There and back: the answer is as small as the small one.
        return Link(_TRIAL_BYTES / max(1e-9, large - small), small / 2) if self._rank == 0 else None

    def _trial(self, to: int, size: int) -> float:
        """Return the seconds until `size` bytes were answered, the least of some trials; both ranks call it."""
        best, body = inf, np.empty(size, np.uint8)
        for _ in range(_TRIALS):
            began = time.perf_counter()
            if self._rank:
                self._hold(self._comm.Irecv([body, MPI.BYTE], 0, _BODY), body)
                self._wait(self._sent)
                self._hold(self._comm.isend(None, 0, _OBJECT), None)
                self._wait(self._sent)
            else:
                self._hold(self._comm.Isend([body, MPI.BYTE], to, _BODY), body)
                self._wait(lambda: self._comm.Iprobe(to, _OBJECT) or None)
                self._comm.recv(None, to, _OBJECT)
            best = min(best, time.perf_counter() - began)
        return best

    def _receive(self, parent: int) -> tuple[bytearray, list[Any]]:
        status = MPI.Status()
        self._wait(lambda: self._comm.Iprobe(parent, _HEAD, status) or None)
        head = bytearray(status.Get_count(MPI.BYTE))
        self._comm.Recv([head, MPI.BYTE], parent, _HEAD)
        bodies = [np.empty(size, np.uint8) for size in pickle.loads(head)[1]]
        requests = [self._comm.Irecv([body, MPI.BYTE], parent, _BODY) for body in bodies]
        self._wait(lambda: True if all(request.Test() for request in requests) else None)
        return head, bodies


def children(place: int, size: int, fan: int | None = None) -> range:
    """Return the places to which one passes on what it got, of so many places in all; place 0 has it first."""
    fan = fan or _FAN
    return range(min(fan * place + 1, size), min(fan * (place + 1) + 1, size))
