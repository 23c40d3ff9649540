"""A world within one process, in virtual time: the race tester, the failure tester, the simulator.

Messages are delivered from a heap ordered by virtual time, in order per pair of ranks, which is all
that MPI promises. A rank's own thread does one task after another. Time costs nothing.
"""

from __future__ import annotations

import heapq
from collections import defaultdict, deque
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import Literal

from hpcens.transports.role import Role
from hpcens.transports.tasks import Tasks
from hpcens.vocabulary import LOCAL, Message, Send, Wait, Waited, carrying, payload

Latency = Callable[[int, int, Message], float]
"""(from rank, to rank or LOCAL, message) → seconds ≥ 0 until it arrives, or until the task is done."""

Post = Literal["held", "blocking"]


class Stuck(RuntimeError):
    """Nothing can happen any more and some role is not done."""


class LateMessage(RuntimeError):
    """A message reached a rank whose role had already gone."""


@dataclass(slots=True)
class _Rank:
    role: Role
    tasks: Tasks
    queue: deque[Message] = field(default_factory=deque)
    working: bool = False
    outbox: deque[Send] = field(default_factory=deque)
    sending: bool = False
    offered: deque[tuple[int, Message]] = field(default_factory=deque)


class VirtualWorld:
    """Drive all roles to their end.

    tasks    rank → what its own thread can do
    latency  seconds of each delivery and of each task
    post     `held`: a send returns at once and its buffer is held until the receiver takes it, as over
             MPI here. `blocking`: a rank takes nothing in until each of its sends was taken; shows the
             deadlocks that blocking sends would have.
    shared   pairs of ranks, who writes and who reads, that share memory: what the first sends lies there until it is
             written anew. Others receive copies, made when they arrive. None: all share
    """

    def __init__(
        self,
        roles: Mapping[int, Role],
        tasks: Mapping[int, Tasks],
        latency: Latency,
        post: Post = "held",
        shared: Collection[tuple[int, int]] | None = None,
    ) -> None:
        self._ranks = {rank: _Rank(role, tasks.get(rank, Tasks())) for rank, role in roles.items()}
        self._latency = latency
        self._blocking = post == "blocking"
        self._shared = shared
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()
        self._arrival: defaultdict[tuple[int, int], float] = defaultdict(float)
        self.now = 0.0
        self.ended = 0.0  # when the last message was delivered; a timer may go off later
        self.deliveries = 0

    def run(self, most: float = float("inf"), until: float = float("inf")) -> None:
        """Run until every role is done, or the whole world is killed: after `most` deliveries, or so many seconds.

        Raises Stuck where all wait for each other and LateMessage where a message meets a rank that has gone.
        """
        for rank in self._ranks:
            self._post(rank, self._ranks[rank].role.start())
        while self._heap and self.deliveries < most and self._heap[0][0] <= until:
            self.now, _, event = heapq.heappop(self._heap)
            event()
        waiting = [rank for rank, state in self._ranks.items() if not state.role.done]
        if waiting and self.deliveries < most and not self._heap:
            blocked = {rank: state.outbox[0].to for rank, state in self._ranks.items() if state.outbox}
            raise Stuck(f"ranks {waiting} wait for ever at {self.now:.3f} s; blocked sends: {blocked}")

    def _at(self, time: float, event: Callable[[], None]) -> None:
        heapq.heappush(self._heap, (time, next(self._order), event))

    def _post(self, rank: int, sends: list[Send]) -> None:
        state = self._ranks[rank]
        for send in sends:
            if send.to == LOCAL:
                self._task(rank, send.message)
            elif self._blocking:
                state.outbox.append(send)
            else:
                self._transmit(rank, send)
        self._unblock(rank)

    def _transmit(self, rank: int, send: Send) -> None:
        pair = rank, send.to
        arrival = max(self._arrival[pair], self.now + self._latency(rank, send.to, send.message))
        self._arrival[pair] = arrival
        self._at(arrival, lambda: self._offer(send.to, rank, send.message))

    def _offer(self, rank: int, source: int, message: Message) -> None:
        if self._blocking:
            self._ranks[rank].offered.append((source, message))
            self._unblock(rank)
        else:
            self._deliver(rank, source, message)

    def _unblock(self, rank: int) -> None:
        """Start the next send of a rank, or let it take the next message if it has none under way."""
        state = self._ranks[rank]
        if state.outbox:
            if not state.sending:
                state.sending = True
                self._transmit(rank, state.outbox[0])
        elif state.offered:
            source, message = state.offered.popleft()
            if source != LOCAL:
                self._ranks[source].outbox.popleft()
                self._ranks[source].sending = False
                self._at(self.now, lambda: self._unblock(source))
            self._deliver(rank, source, message)

    def _deliver(self, rank: int, source: int, message: Message) -> None:
        state = self._ranks[rank]
        if state.role.done:
            if source == LOCAL:
                return
            raise LateMessage(f"{type(message).__name__} from rank {source} reached rank {rank} after its end")
        if source != LOCAL and self._shared is not None and (source, rank) not in self._shared:
            message = carrying(message, [array.copy() for array in payload(message)])
        self.deliveries += 1
        self.ended = self.now
        self._post(rank, state.role.handle(message, source))

    def _task(self, rank: int, task: Message) -> None:
        if isinstance(task, Wait):
            self._at(self.now + task.seconds, lambda: self._offer(rank, LOCAL, Waited()))
            return
        self._ranks[rank].tasks.prepare(task)
        self._ranks[rank].queue.append(task)
        self._work(rank)

    def _work(self, rank: int) -> None:
        state = self._ranks[rank]
        if state.working or not state.queue:
            return
        state.working = True
        task = state.queue.popleft()
        self._at(self.now + self._latency(rank, LOCAL, task), lambda: self._worked(rank, task))

    def _worked(self, rank: int, task: Message) -> None:
        state = self._ranks[rank]
        for answer in state.tasks.run(task):
            self._offer(rank, LOCAL, answer)
        state.working = False
        self._work(rank)
