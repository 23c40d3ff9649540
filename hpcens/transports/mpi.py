"""MPI: one world, messages that never block, and waiting that does not burn a core.

A message is a small pickled head and, if it carries arrays, the bytes of each right behind it,
without a copy or a pickle; of an array in memory that both ranks share, the place. Sends are started
and their buffers held until they are through; big receives are started as soon as their head is there.
While it waits, a rank looks for messages and sleeps in turn, so signal handlers run and a core stays
free; an answer of its own thread wakes it, and so does a message from a rank of its host.
"""

from __future__ import annotations

import pickle
import queue
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Sequence
from math import inf
from typing import Any

import numpy as np
from mpi4py import MPI

from hpcens.arrays import Buffers
from hpcens.processes import node
from hpcens.transports.arrival import Arrival
from hpcens.transports.bells import Bells
from hpcens.transports.collectives import Collectives
from hpcens.transports.mailbox import Mailbox
from hpcens.transports.own_thread import OwnThread
from hpcens.transports.ring import Rings
from hpcens.transports.tasks import Tasks
from hpcens.transports.timeline import HAND_OVER, INPUT, Timeline, clock
from hpcens.vocabulary import LOCAL, Array, Link, Message, Send, Wait, Waited, carrying, payload

_HEAD, _BODY = 1, 2  # 3 to 5: see `collectives`
_SHORTEST_PAUSE, _LONGEST_PAUSE = 50e-6, 10e-3
# Between two messages of a role: every look takes a core from a device's thread, for it and for what it finds cached.
_LONGEST_PAUSE_OF_ROLES = 30e-3
_LONGEST_PAUSE_RUNG = 0.1  # where the bell rings for all messages: signals are noticed no later
# A pause is a part of the time already waited, so that waiting for anything is longer by no more than that part.
_PART = 1 / 3
_PART_UNDER_WAY = 1 / 20  # a big message goes through in pieces, each when both ends look
_BIG = 256 << 10
_SHORTEST_PAUSE_OF_SENDS = 1e-3  # of small ones, where the bell rings when they are through
_EMPTY = np.empty(0, np.uint8)


class MpiWorld:
    """The world of ranks as one of them sees it.

    beat    called once a second while the rank looks for messages: the sign of life
    notice  called at every look for messages; a message it returns is delivered as from LOCAL
    """

    def __init__(self, beat: Callable[[], None], notice: Callable[[], Message | None]) -> None:
        self.timeline = Timeline()
        self._comm = MPI.COMM_WORLD
        self.rank, self.size = self._comm.Get_rank(), self._comm.Get_size()
        self.node = node()
        self.library = " ".join(MPI.Get_library_version().splitlines()[0].strip("\0 ").split())
        self._beat = beat
        self._beaten = 0.0
        self._notice = notice
        self._status = MPI.Status()
        # with the rank that hears of a message too late, where it was not on its way at once
        self._held: deque[tuple[MPI.Request, object, int]] = deque()
        self._arriving: defaultdict[int, deque[Arrival]] = defaultdict(deque)
        self._inbox: deque[tuple[int, Message]] = deque()
        self._buffers = Buffers()
        self.rings = Rings()
        self._bells = Bells()
        self._answers = Mailbox(self._bells)
        self._alarms: list[float] = []
        self._queue: queue.SimpleQueue[Message | None] = queue.SimpleQueue()
        self._tasks = Tasks()
        self._thread = OwnThread("rank")
        self._through: threading.Event | None = None
        self._collectives = Collectives(self._comm, self._hold, self._wait, lambda: True if not self._held else None)

    def hang_bells(self) -> None:
        """Let ranks of one host wake each other when they send a message; every rank calls it."""
        self._bells.reach(self.broadcast(self.gather(self._bells.address)))

    def start_tasks(self, tasks: Tasks) -> None:
        """Let the rank's own thread do these tasks for the next role that is driven."""
        self.stop_tasks()
        self._tasks = tasks
        self._through = self._thread.begin(self._do_tasks)

    def stop_tasks(self) -> None:
        """Let the thread off once it is through with its task; drop answers that nobody waits for."""
        if (through := self._through) is not None:
            self._queue.put(None)
            self._wait(lambda: True if through.is_set() else None)
            self._through = None
        self._queue = queue.SimpleQueue()
        self._answers = Mailbox(self._bells)
        self._alarms.clear()

    def work(self, task: Callable[[], Any]) -> Any:
        """Do something long in the own thread; return its result. Meanwhile the rank beats and handles signals."""
        results: list[Any] = []

        def run() -> None:
            try:
                results.append(task())
                self._answers.put(None)
            except BaseException as error:
                self._answers.put(error)

        over = self._thread.begin(run)
        self._wait(lambda: True if results and over.is_set() else None)
        return results[0]

    def post(self, sends: Iterable[Send]) -> None:
        """Begin to deliver messages; queue tasks of the own thread."""
        sent_to = set()
        for send in sends:
            if send.to != LOCAL:
                self._send(send.to, send.message)
                sent_to.add(send.to)
            elif isinstance(send.message, Wait):
                self._alarms.append(time.monotonic() + send.message.seconds)
            else:
                self._tasks.prepare(send.message)
                self._queue.put(send.message)
        for rank in sent_to:
            self._bells.ring(rank)

    def receive(self) -> tuple[int, Message]:
        """Wait for the next message or answer; return the rank it comes from, or LOCAL, and the message."""
        rung = self._bells.all_nearby
        longest = _LONGEST_PAUSE_RUNG if rung else _LONGEST_PAUSE_OF_ROLES
        if self._alarms:
            longest = min(longest, max(0.0, self._alarms[0] - time.monotonic()))
        source, message = self._wait(self._next, longest, rung=rung)
        return source, message

    def gather(self, value: object) -> list[Any]:
        """Collect every rank's value: at rank 0 all of them, in rank order; elsewhere an empty list."""
        return self._collectives.gather(value)

    def broadcast(self, value: Any = None, to: Sequence[int] | None = None) -> Any:
        """Return rank 0's value on every rank; every rank calls it, and goes on once it has passed the value on.

        to  ranks that need it, the same on every rank; elsewhere it returns None. None: all
        """
        return self._collectives.broadcast(value, to)

    def link(self, to: int) -> Link | None:
        """Measure the link from rank 0 to rank `to`, the best of some trials; every rank calls it, rank 0 is told."""
        return self._collectives.link(to)

    def finish_sends(self) -> None:
        """Wait until every send is complete."""
        self._wait(lambda: True if not self._held else None)

    @staticmethod
    def lost_peer(error: BaseException) -> bool:
        """Return whether the error is MPI's: a message failed, most likely since the rank at its other end died."""
        return isinstance(error, MPI.Exception)

    def abort(self, code: int) -> None:
        """End all ranks at once."""
        self._comm.Abort(code)

    def _send(self, to: int, message: Message) -> None:
        bodies = payload(message)
        bare = carrying(message, [_EMPTY] * len(bodies))
        places = self.rings.places(to, bodies)
        kinds = [(body.dtype.str, body.shape, place) for body, place in zip(bodies, places, strict=True)]
        head = pickle.dumps((bare, kinds), 5)
        request = self._comm.Isend([head, MPI.BYTE], to, _HEAD)
        if not request.Test():
            self._held.append((request, head, to))
        for body in (body for body, place in zip(bodies, places, strict=True) if place is None):
            self._hold(self._comm.Isend([body.reshape(-1).view(np.uint8), MPI.BYTE], to, _BODY), body)

    def _hold(self, request: MPI.Request, buffer: object) -> None:
        self._held.append((request, buffer, LOCAL))

    def _look(self) -> bool:
        """Make progress on all that is under way; return whether anything moved."""
        moved = False
        for _ in range(len(self._held)):
            request, buffer, late = self._held.popleft()
            if request.Test():
                self._bells.ring(late)
                moved = True
            else:
                self._held.append((request, buffer, late))
        # asked twice: MPICH looks at what has come before it takes in what is coming
        while any(self._comm.Iprobe(MPI.ANY_SOURCE, _HEAD, self._status) for _ in range(2)):
            self._arrive(self._status.Get_source(), self._status.Get_count(MPI.BYTE))
            moved = True
        for source, arrivals in self._arriving.items():
            while arrivals and arrivals[0].complete():
                arrival = arrivals.popleft()
                self._inbox.append((source, arrival.message()))
                if arrival.followed:
                    self._bells.ring(source)
                moved = True
        return moved

    def _arrive(self, source: int, size: int) -> None:
        head = bytearray(size)
        self._comm.Recv([head, MPI.BYTE], source, _HEAD)
        message, kinds = pickle.loads(head)
        bodies: list[Array] = []
        coming: list[Callable[[], bool]] = []
        for dtype, shape, place in kinds:
            if place is not None:
                bodies.append(self.rings.at(source, place, shape, dtype))
                continue
            bodies.append(self._buffers.empty(shape, dtype))
            coming.append(self._comm.Irecv([bodies[-1].reshape(-1).view(np.uint8), MPI.BYTE], source, _BODY).Test)
        self._arriving[source].append(Arrival(message, bodies, coming))

    def _next(self) -> tuple[int, Message] | None:
        if self._inbox:
            return self._inbox.popleft()
        if self._alarms and self._alarms[0] <= time.monotonic():
            self._alarms.pop(0)
            return LOCAL, Waited()
        noticed = self._notice()
        return (LOCAL, noticed) if noticed is not None else None

    def _wait(self, ask: Callable[[], Any], longest: float = _LONGEST_PAUSE, *, rung: bool = False) -> Any:
        """Make progress until `ask` returns an answer, with pauses that grow while nothing moves.

        longest  seconds of such a pause
        rung     whether the bell rings for all that is waited for, but for what is under way
        """
        still = time.monotonic()  # since then nothing has moved
        while True:
            now = time.monotonic()
            if now - self._beaten > 1.0:  # also where messages leave no time to wait
                self._beaten = now
                self._beat()
            if self._look():
                still = now
            if (answer := ask()) is not None:
                return answer
            for answer in self._answers.take(min(self._pause(now - still, rung=rung), longest)):
                if isinstance(answer, BaseException):
                    raise answer
                if answer is not None:
                    self._inbox.append((LOCAL, answer))
                still = now

    def _pause(self, waited: float, *, rung: bool) -> float:
        """Return the seconds until the next look, after so many in which nothing moved."""
        if any(self._arriving.values()) or any(getattr(buffer, "nbytes", 0) > _BIG for _, buffer, _ in self._held):
            return max(_SHORTEST_PAUSE, _PART_UNDER_WAY * waited)
        if rung:
            return max(_SHORTEST_PAUSE_OF_SENDS, _PART * waited) if self._held else inf
        return max(_SHORTEST_PAUSE, (_PART_UNDER_WAY if self._held else _PART) * waited)

    def _do_tasks(self) -> None:
        """Do one task after another, in the rank's own thread; an error goes to whoever receives."""
        answers, tasks = self._answers, self._queue
        try:
            began = clock()
            while True:
                task = tasks.get()
                began, waited = clock(), began
                self.timeline.add(HAND_OVER if self._held else INPUT, waited, began)
                if task is None:
                    return
                began = self._do(task, began)
        except BaseException as error:  # whatever it is, the rank's main thread has to end for it
            answers.put(error)

    def _do(self, task: Message, began: float) -> float:
        """Do a task, hand over its answers and note what took how long; return when it was done."""
        kind, segment = type(task).__name__, getattr(task, "segment", None)
        ended = began
        for answer in self._tasks.run(task):
            began, ended = ended, clock()
            self.timeline.add(getattr(answer, "member", kind), began, ended, segment, kind=kind)
            self._answers.put(answer)
            del answer  # what is sent is held by nobody else
            if self._tasks.pause():
                began, ended = ended, clock()
                self.timeline.add(HAND_OVER, began, ended)
        if ended == began:
            ended = clock()
            self.timeline.add(kind, began, ended, segment)
        return ended
