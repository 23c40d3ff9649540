"""Answer which nodes a job needs and how long it takes there, before any device hour is spent, from kept profiles.

Answers are data; nothing is started or printed for them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

from hpcens.checks.preflight import Preflight
from hpcens.engine import present
from hpcens.errors import UsageError
from hpcens.planning.comparison import Compared, compare
from hpcens.planning.inventory import described_nodes, slurm_nodes
from hpcens.planning.io_rates import known_link, with_link
from hpcens.planning.job_planner import JobPlanner
from hpcens.planning.job_problem import state_problem
from hpcens.planning.nodes import Allocation, Nodes, allocations, named, smallest, smallest_of_a_kind
from hpcens.profiling import ProfileBook, inspect_io
from hpcens.runs import RunDirectory
from hpcens.shell import option
from hpcens.specs import Job, PlannerName
from hpcens.vocabulary import Device, IoRates, Plan

# As many nodes like this host there are, where no cluster is described.
_MANY = 1024

Source = Literal["", "kept", "cluster", "slurm", "host"]
"""Of a plan that was kept; else of what nodes are like: the YAML, Slurm, or this host as an example."""


@dataclass(frozen=True, slots=True)
class PlanRequest:
    """What a plan is asked for; at most one of these, and on this host's devices where none is given.

    nodes     from so many to so many nodes
    deadline  seconds in which the fewest nodes are to finish
    compare   by every planner
    """

    nodes: tuple[int, int] | None = None
    deadline: float | None = None
    compare: bool = False


@dataclass(frozen=True, slots=True)
class PlanAnswer:
    """One plan, or several side by side.

    plan         the one that was asked for; None where several were
    allocation   the fewest nodes that meet the deadline, where one was given
    allocations  one for each number of nodes, where there are several
    compared     what each planner makes, where that was asked for
    """

    plan: Plan | None = None
    allocation: Allocation | None = None
    allocations: Sequence[Allocation] = ()
    compared: Sequence[Compared] = ()


@dataclass(frozen=True, slots=True)
class Expectation:
    """The plan that a job on some nodes will have, as far as it is known.

    nodes    how many
    plan     None where members are not profiled on such nodes, or do not fit them
    source   who says what the nodes are like
    unknown  why there is no plan; empty where there is one
    """

    nodes: int
    plan: Plan | None
    source: Source
    unknown: str = ""


class Capacity:
    """One job's plans, from kept profiles.

    preflight  what `checks.preflight.check` found of the job
    """

    def __init__(self, job: Job, preflight: Preflight) -> None:
        self._job = job
        self._preflight = preflight
        self._book = ProfileBook.default()
        self._planner = JobPlanner(job, preflight, self._book)
        self._local: IoRates | None = None

    @cached_property
    def _here(self) -> tuple[Device, ...]:
        """Those of the devices that the job asks for that this host has."""
        return present(self._job.spec.devices)

    @cached_property
    def lacking(self) -> UsageError | None:
        """What this host lacks of the devices that the job asks for; None where it has them."""
        try:
            self._planner.needs.local_devices()
        except UsageError as error:
            return error
        return None

    @cached_property
    def _node(self) -> tuple[Device, ...]:
        """The devices to plan for where nothing is said: this host's, else those of one node that has them.

        Raises UsageError where neither this host nor a node that is known has them.
        """
        if self.lacking is None:
            return self._here
        _, nodes = self._nodes()
        return tuple(named(nodes[0], 1))

    def missing(self) -> int:
        """Return how many measurements this host's devices have to take before there can be a plan for them.

        Raises UsageError where it lacks some of them.
        """
        if self.lacking is not None:
            raise self.lacking
        return sum(map(len, self._planner.needs.unmeasured(dict(enumerate(self._here))).values()))

    def answer(self, request: PlanRequest) -> PlanAnswer:
        """Plan what is asked for. Raises UsageError where members are not profiled, or fit none of the nodes."""
        if request.compare:
            problem = state_problem(self._planner.needs, self._node, self._rates(self._node))
            return PlanAnswer(compared=compare(problem, self._planned_by))
        if request.deadline is None and request.nodes is None:
            return PlanAnswer(self._planned(self._node))
        _, nodes = self._nodes()
        if request.nodes is None:
            chosen = smallest(nodes, request.deadline or 0.0, self._planned)
            return PlanAnswer(chosen.plan, allocation=chosen)
        first, last = request.nodes
        each = allocations(nodes, range(first, last + 1), self._planned)
        return PlanAnswer(each[0].plan) if first == last else PlanAnswer(allocations=each)

    def expected(self, nodes: int) -> Expectation:
        """Return the plan that a job on so many nodes would keep or make; nothing is measured on devices for it."""
        earlier = (Plan.kept(epoch.plan) for epoch in RunDirectory.of(self._job.output).epochs())
        kept = Plan.load(self._job.plan) if self._job.plan else next(filter(None, earlier), None)
        if kept is not None and len({device.host for device in kept.devices}) == nodes:
            return Expectation(nodes, kept, "kept")
        try:
            source, kinds = self._nodes()
            return Expectation(nodes, allocations(kinds, [nodes], self._planned)[0].plan, source)
        except UsageError as error:
            return Expectation(nodes, None, "", error.what)

    def fewest(self, deadline: float, partition: str | None) -> tuple[Nodes, Allocation]:
        """Return the kind of node of which the fewest score the dataset in so many seconds, and their allocation.

        partition  of Slurm, to which the nodes have to belong; None for any
        Raises UsageError where none do, where members are not profiled on a kind, or nothing describes the nodes.
        """
        nodes = self._described() or self._known(partition)
        if not nodes:
            raise UsageError(
                f"no nodes{f' of partition {partition}' if partition else ''} are known to choose from",
                f"describe them under cluster: in the YAML, or ask for a number: {option('slurm', {'nodes': 4})}",
            )
        return smallest_of_a_kind(nodes, deadline, self._planned)

    def _nodes(self) -> tuple[Source, list[Nodes]]:
        """Return the kinds of node there are, and who says so; else as many like this host as are wanted."""
        if nodes := self._described():
            return "cluster", nodes
        if nodes := self._known(None):
            return "slurm", nodes
        if self.lacking is not None:
            raise UsageError(self.lacking.what, f"{self.lacking.remedy}; or describe the nodes under cluster:")
        return "host", [Nodes("node", _MANY, self._here)]

    def _described(self) -> list[Nodes]:
        return described_nodes(self._job.spec)

    def _known(self, partition: str | None) -> list[Nodes]:
        profiled = dict.fromkeys(key.kind for key, _ in self._book.all())
        return slurm_nodes(partition, self._job.spec.devices, self._here, profiled, self._book.memories())

    def _rates(self, devices: Sequence[Device]) -> IoRates:
        """Measure reading and writing, once; what a link passes is measured by runs alone, and kept."""
        if self._local is None:
            self._local = inspect_io(self._job, self._planner.result_bytes(devices))
        return with_link(self._local, known_link(devices, self._book))

    def _planned(self, devices: Sequence[Device]) -> Plan:
        """Plan for these devices, with a reader a node at most."""
        return self._planner.plan(devices, self._rates(devices), readers=len({device.host for device in devices}))

    def _planned_by(self, planner: PlannerName) -> Plan:
        spec = replace(self._job.spec, plan=replace(self._job.spec.plan, planner=planner))
        job_planner = JobPlanner(replace(self._job, spec=spec, plan=None), self._preflight, self._book)
        return job_planner.plan(self._node, self._rates(self._node))
