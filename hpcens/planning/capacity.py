"""Planning: what `hpcens plan`, `profile` and `simulate` answer before any device hour is spent."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from hpcens.checks.members import check_members
from hpcens.checks.preflight import Preflight
from hpcens.engine.discovery import discover
from hpcens.errors import COMPLETE, HpcensError, UsageError
from hpcens.files import write_atomically
from hpcens.launch.local import start
from hpcens.planning.comparison import compare
from hpcens.planning.inventory import inventory
from hpcens.planning.io_rates import known_link, local_rates, with_link
from hpcens.planning.job_planner import JobPlanner
from hpcens.planning.job_problem import state_problem
from hpcens.planning.nodes import Allocation, Nodes, allocations, smallest, smallest_of_a_kind, spell
from hpcens.profiling.book import ProfileBook
from hpcens.reports.html import draw
from hpcens.reports.progress import Follower
from hpcens.reports.text import allocation_lines, amount, comparison_lines, plan_lines, simulation_lines
from hpcens.runs import RunDirectory
from hpcens.scheduler.nodes import node_groups
from hpcens.specs import Job, NodesSpec, PlannerName, SlurmSpec
from hpcens.vocabulary import Device, Family, IoRates, Plan

# As many nodes like this host there are, where no cluster is described.
_MANY = 1024


@dataclass(frozen=True, slots=True)
class PlanRequest:
    """What a plan is asked for: on so many nodes, in so many seconds, or by all planners; and the files to write."""

    nodes: tuple[int, int] | None = None
    deadline: float | None = None
    compare: bool = False
    output: Path | None = None
    html: Path | None = None
    as_json: bool = False


class Capacity:
    """One job's plans, from kept profiles. preflight: what `checks.preflight.check` found of it."""

    def __init__(self, job: Job, preflight: Preflight) -> None:
        self._job = job
        self._preflight = preflight
        self._opening = JobPlanner(job, self._preflight, ProfileBook.default())
        self._local: IoRates | None = None

    @cached_property
    def _here(self) -> tuple[Device, ...]:
        return discover(self._job.spec.devices)

    def measure(self) -> int:
        """Measure what is missing on this host's devices; how many were.

        Raises what the measuring ended with, and MemberError where a member breaks its contract.
        """
        for warning in check_members(self._job, self._preflight):
            print(f"hpcens: warning: {warning}", file=sys.stderr)
        todo = self._opening.needs.unmeasured(dict(enumerate(self._here)))
        if todo:
            with TemporaryDirectory(prefix="hpcens-profile-") as folder:
                elsewhere = replace(self._job, output=Path(folder) / "profile.h5")
                verdict = start(elsewhere, self._preflight, only_profile=True, tick=Follower().tick)
            if verdict.code != COMPLETE:
                raise HpcensError(verdict.reason, verdict.remedy)
        return sum(map(len, todo.values()))

    def answer(self, wish: PlanRequest, *, shaded: bool = False) -> Iterator[str]:
        """The answer as lines of text; writes the files that are wanted."""
        if wish.compare:
            problem = state_problem(self._opening.needs, self._here, self._rates(self._here))
            yield from comparison_lines(compare(problem, self._by))
            return
        nodes = self._nodes()
        if wish.nodes and wish.nodes[0] < wish.nodes[1]:
            yield from allocation_lines(allocations(nodes, range(wish.nodes[0], wish.nodes[1] + 1), self._planned))
            return
        if wish.deadline:
            chosen = smallest(nodes, wish.deadline, self._planned)
            plan = chosen.plan
            if not wish.as_json:
                words = " and ".join(f"{count} {name}" for name, count in chosen.taken)
                yield f"{words} make it within {spell(wish.deadline)}:"
        elif wish.nodes:
            plan = allocations(nodes, [wish.nodes[0]], self._planned)[0].plan
        else:
            plan = self._planned(self._here)
        if wish.output:
            write_atomically(wish.output, plan.to_json())
        if wish.html:
            write_atomically(wish.html, draw(plan))
        yield from [plan.to_json()] if wish.as_json else plan_lines(plan, shaded=shaded)

    def expected(self, nodes: int) -> Iterator[str]:
        """The plan a job on so many nodes would keep or make, as far as it is known; nothing is measured for it."""
        run = RunDirectory.of(self._job.output)
        known = [self._job.plan] if self._job.plan else [epoch.plan for epoch in run.epochs() if epoch.plan.exists()]
        if known:
            yield from plan_lines(Plan.load(known[0]))
            return
        try:
            plan = allocations(self._nodes(), [nodes], self._planned)[0].plan
        except UsageError as unknown:
            yield f"no plan yet: {unknown.what}; the job measures and plans at its start, on what its ranks find"
            return
        like = "those under cluster:" if self._job.spec.cluster else "Slurm's" if self._known(None) else "this host"
        yield f"expected, from kept profiles, on {nodes} node{'s' if nodes > 1 else ''} like {like}:"
        yield from plan_lines(plan)

    def chosen(self, deadline: float, partition: str | None) -> tuple[Nodes, Allocation]:
        """The fewest nodes of one kind that score the dataset within `deadline` seconds; of the partition, if given.

        Raises UsageError where none do, where members are not measured on a kind, or nothing describes the nodes.
        """
        nodes = self._described() or self._known(partition)
        if not nodes:
            raise UsageError(
                f"no nodes{f' of partition {partition}' if partition else ''} are known to choose from",
                "describe them under cluster: in the YAML, or ask for a number: --slurm nodes=4",
            )
        return smallest_of_a_kind(nodes, deadline, self._planned)

    def _nodes(self) -> list[Nodes]:
        """The kinds of node there are: by the configuration, by Slurm, or as many like this host as are wanted."""
        return self._described() or self._known(None) or [Nodes("node", _MANY, self._here)]

    def _described(self) -> list[Nodes]:
        return [Nodes(name, of.nodes, _devices(of)) for name, of in self._job.spec.cluster.items()]

    def _known(self, partition: str | None) -> list[Nodes]:
        groups = [of for of in node_groups() if partition in (None, of.partition)]
        profiled = dict.fromkeys(key.kind for key, _ in ProfileBook.default().all())
        return inventory(groups, self._job.spec.devices, self._here, profiled)

    def _rates(self, devices: Sequence[Device]) -> IoRates:
        """What a link passes is measured by runs alone, and kept."""
        if self._local is None:
            self._local = local_rates(self._job, self._opening.result_bytes(devices))
        return with_link(self._local, known_link(devices, self._opening.needs.book))

    def _planned(self, devices: Sequence[Device]) -> Plan:
        return self._opening.plan(devices, self._rates(devices), readers=len({device.host for device in devices}))

    def _by(self, planner: PlannerName) -> Plan:
        spec = replace(self._job.spec, plan=replace(self._job.spec.plan, planner=planner))
        opening = JobPlanner(replace(self._job, spec=spec, plan=None), self._preflight, ProfileBook.default())
        return opening.plan(self._here, self._rates(self._here))


def within(deadline: float, settings: SlurmSpec, desk: Capacity, *, told: bool) -> SlurmSpec:
    """The settings that ask for the fewest nodes on which the run takes `deadline` seconds; told: say so."""
    nodes, allocation = desk.chosen(deadline, settings.partition)
    gpus = sum(device.family == "cuda" for device in nodes.devices)
    if told:
        takes = f"{spell(allocation.plan.seconds)}, limited by {allocation.plan.limit}"
        print(f"{allocation.nodes} {nodes.name} make it within {spell(deadline)}: {takes}")
    return replace(
        settings,
        nodes=allocation.nodes,
        gpus_per_node=settings.gpus_per_node or gpus or None,
        partition=settings.partition or nodes.partition or None,
    )


def _devices(of: NodesSpec) -> tuple[Device, ...]:
    """The devices of one node of the kind."""
    family: Family = "cpu" if of.kind.startswith("cpu") else "cuda"
    return tuple(Device(f"{family}{i}", family, of.kind, of.memory, index=i) for i in range(of.devices))


def simulated(path: Path, rows: int | None, *, as_json: bool) -> Iterator[str]:
    """A stored plan run in virtual time, over as many rows as it was made for or as are given."""
    from hpcens.planning.simulation import simulate

    plan = Plan.load(path)
    if rows is not None:
        plan = replace(plan, rows=rows)
    found = simulate(plan)
    if as_json:
        yield json.dumps(asdict(found) | {"rows_per_second": found.rows_per_second}, indent=1)
    else:
        yield from simulation_lines(plan, found)


def profiled() -> Iterator[str]:
    """All that is kept: profiles, links and what runs reached, a line each."""
    book = ProfileBook.default()
    for key, profile in book.all():
        batches = ", ".join(
            f"{b} → {p.rows_per_second:,.4g}/s ± {50 * p.spread:.0f} %" for b, p in sorted(profile.batches.items())
        )
        of = f"{key.kind}  member {key.member[:12]}  {key.runtime}  torch {key.torch}  {amount(profile.weights)}"
        apart = f", within {profile.difference:.1g} of eager" if key.runtime != "eager" and batches else ""
        yield f"{of}: {batches or profile.refused or 'differs from eager'}{apart}"
    for where, link in book.links():
        to = f"{'another node' if where.apart else 'the same node'}, {where.kind}"
        yield f"link to {to}: {link.bytes_per_second / 1e9:.3g} GB/s, {1e6 * link.message_seconds:.0f} µs a message"
    for kind in book.kinds():
        parts = book.reached(kind)
        runs = f"the last {len(parts)} runs reached {min(parts):.2f}–{max(parts):.2f}"
        yield f"{kind}: plans count on {median(parts):.2f} of these rows/s, since {runs}, members beside each other"
