"""Simulation: the roles and messages of a run in virtual time, with predictions that take as long as profiled.

Rows are stand-ins without a width; everything else is what a run does. What reading, a link and a disk cost is what
the plan was made with, or a guess where that was not measured; the devices' speeds are their profiles'. A member that
scores a part of the rows takes that part of every segment.
Phases are run one after another, each to its last segment's being durable.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache

import numpy as np

from hpcens.roles import Reader, Reducer, Worker, shares_by_rank
from hpcens.transports import Role, Tasks, reader_tasks, reducer_tasks, worker_tasks
from hpcens.transports.virtual import VirtualWorld
from hpcens.vocabulary import (
    LOCAL,
    Array,
    Batch,
    Flush,
    IoRates,
    Message,
    Plan,
    Predict,
    Predicted,
    Prediction,
    Read,
    Rows,
    Segmentation,
    Write,
)
from hpcens.vocabulary.groups import group_by_member

# Seconds between two syncs of a reducer.
_BETWEEN_SYNCS = 2.0


@dataclass(frozen=True, slots=True)
class _Costs:
    """Seconds of a message beside its bytes, bytes/s of a rank's link and of the disk, and seconds of a sync.

    The defaults are a guess where nothing was measured.
    """

    message: float = 5e-5
    link: float = 2e9
    disk: float = 1e9
    sync: float = 0.01


@dataclass(frozen=True, slots=True)
class Simulated:
    """What came of a simulation. Busy seconds: of devices computing, readers reading and sending, reducers writing.

    rows        that became durable
    deliveries  messages that reached a rank, and those from its own thread
    devices     name → busy seconds
    """

    rows: int
    seconds: float
    deliveries: int
    devices: Mapping[str, float]
    reading: float
    sending: float
    writing: float

    @property
    def rows_per_second(self) -> float:
        """Rows per second of the whole ensemble; 0 where no row was scored."""
        return self.rows / self.seconds if self.seconds else 0.0  # of no rows

    def to_json(self) -> str:
        """Write the result as JSON, `rows_per_second` included."""
        return json.dumps(asdict(self) | {"rows_per_second": self.rows_per_second}, indent=1)


def _costs_of(rates: IoRates) -> _Costs:
    measured = {"message": rates.message_seconds, "link": rates.link, "disk": rates.disk, "sync": rates.sync_seconds}
    return _Costs(**{name: value for name, value in measured.items() if value is not None})


def simulate(plan: Plan, until: float = float("inf")) -> Simulated:
    """Run the plan to its end in virtual time, phase after phase; what loading members takes is left out.

    until  seconds after which all ranks are killed, of a plan without phases
    """
    phases = [_Simulation(plan, phase, _costs_of(plan.rates)) for phase in range(len(plan.groups))]
    for phase in phases:
        phase.run(until)
    busy = dict.fromkeys((device for hosting in plan.hostings for device in hosting.devices), 0.0)
    for phase in phases:
        for device, seconds in phase.devices.items():
            busy[device] += seconds
    return Simulated(
        rows=phases[-1].rows,
        seconds=sum(phase.seconds for phase in phases),
        deliveries=sum(phase.deliveries for phase in phases),
        devices=busy,
        reading=sum(phase.reading for phase in phases),
        sending=sum(phase.sending for phase in phases),
        writing=sum(phase.writing for phase in phases),
    )


class _Simulation:
    """The ranks of a phase, and when each link and each thread is free again."""

    def __init__(self, plan: Plan, phase: int, costs: _Costs) -> None:
        self._plan = plan
        self._members = plan.groups[phase]
        self._hostings = [hosting for hosting in plan.hostings if hosting.phase == phase]
        self._costs = costs
        self._segmentation = Segmentation(plan.rows, plan.numerics.segment_rows)
        names = [device for hosting in self._hostings for device in hosting.devices]
        self._readers = range(plan.readers)
        self._reducers = range(plan.readers, plan.readers + plan.reducers)
        self._ranks = {name: rank for rank, name in enumerate(names, plan.readers + plan.reducers)}
        self._speeds = {self._ranks[d]: hosting.speeds for hosting in self._hostings for d in hosting.devices}
        hosts = tuple(dict.fromkeys(device.host for device in plan.devices))
        at = {device.name: device.host for device in plan.devices}
        self._beside = {
            (reader, rank)
            for reader, host in zip(self._readers, hosts, strict=False)
            for name, rank in self._ranks.items()
            if plan.copied is not None and host and at[name] == host
        }
        self._links: dict[int, float] = {}
        self._busy = dict.fromkeys(self._ranks.values(), 0.0)
        self.rows = 0
        self.reading = self.sending = self.writing = 0.0
        self._world = VirtualWorld(self._roles(), self._tasks(), self._seconds)

    def run(self, until: float) -> None:
        """Run the roles until each is done, or so many seconds."""
        self._world.run(until=until)

    @property
    def seconds(self) -> float:
        return self._world.ended

    @property
    def deliveries(self) -> int:
        return self._world.deliveries

    @property
    def devices(self) -> dict[str, float]:
        """Busy seconds by name."""
        return {name: self._busy[rank] for name, rank in self._ranks.items()}

    def _roles(self) -> dict[int, Role]:
        plan, ranks = self._plan, self._ranks
        window, read_ahead = plan.bounds(plan.readers)
        readers = {
            rank: Reader(
                segments=range(rank, len(self._segmentation), plan.readers),
                members=self._members,
                shares=shares_by_rank(self._hostings, ranks, plan.parts, group_by_member(plan.numerics.members)),
                devices=ranks.values(),
                reducers=self._reducers,
                first=0 if rank else None,
                others=() if rank else self._readers[1:],
                window=window,
                read_ahead=read_ahead,
                batches={member: plan.numerics.members[member].batch for member in self._members},
            )
            for rank in self._readers
        }
        reducers = {
            rank: Reducer(
                members=self._members,
                devices=ranks.values(),
                readers=self._readers,
                reducers=plan.reducers,
                window=window,
                seconds=_BETWEEN_SYNCS,
            )
            for rank in self._reducers
        }
        workers = {rank: Worker(readers=self._readers, reducers=self._reducers) for rank in ranks.values()}
        return {**readers, **reducers, **workers}

    def _tasks(self) -> dict[int, Tasks]:
        def read(segment: int, slot: int | None) -> Rows:
            return (_stand_in(self._segmentation.size(segment)),)

        def predict(task: Predict) -> Iterator[Predicted]:
            for member in task.members:
                batch = self._plan.numerics.members[member].batch
                yield Predicted(task.segment, member, task.rows[0], batch, part=task.part)

        def flush(segments: Sequence[int]) -> None:
            self.rows += sum(map(self._segmentation.size, segments))

        worker = worker_tasks(predict, lambda task: None, most=None)
        return {
            **dict.fromkeys(self._readers, reader_tasks(read, lambda progress: None)),
            **dict.fromkeys(self._reducers, reducer_tasks(lambda task: None, flush)),
            **dict.fromkeys(self._ranks.values(), worker),
        }

    def _seconds(self, rank: int, to: int, message: Message) -> float:
        """Return the seconds of a thread's task, or until a message arrives: a rank sends one after another."""
        if to == LOCAL:
            return self._task_seconds(rank, message)
        size = 0
        if isinstance(message, Batch) and (rank, to) not in self._beside:
            sent = min(1.0, sum(self._plan.parts.get(member, 1.0) for member in message.members))
            size = round(len(message.rows[0]) * sent * self._plan.row_bytes)
        elif isinstance(message, Prediction):
            part = self._plan.parts.get(message.member, 1.0)
            size = round(len(message.values) * part * self._plan.output_bytes)
        if not size:
            return self._costs.message
        now = self._world.now
        lasts = size / self._costs.link
        free = max(now, self._links.get(rank, 0.0)) + lasts
        self._links[rank] = free
        if rank in self._readers:
            self.sending += lasts
        return free - now + self._costs.message

    def _task_seconds(self, rank: int, task: Message) -> float:
        seconds = 0.0
        if isinstance(task, Predict):
            speeds, parts = self._speeds[rank], self._plan.parts
            seconds = sum(len(task.rows[0]) * parts.get(member, 1.0) / speeds[member] for member in task.members)
            self._busy[rank] += seconds
        elif isinstance(task, Read):
            readers = self._plan.readers
            seconds = self._segmentation.size(task.segment) * readers / self._plan.rates.read_by(readers)
            self.reading += seconds
        elif isinstance(task, Write):
            seconds = len(task.stack[0]) * self._plan.output_bytes / self._costs.disk
            self.writing += seconds
        elif isinstance(task, Flush):
            seconds = self._costs.sync
            self.writing += seconds
        return seconds


@lru_cache
def _stand_in(rows: int) -> Array:
    return np.empty((rows, 0), np.float32)
