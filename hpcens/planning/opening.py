"""Open a start: what its ranks do together between their roles and the first batch.

    measure what is missing → survey I/O → plan → fix the fingerprint → form the phases → Assignment

`open_start` alone does collectives, the same on every rank; what rank 0 decides between them is in `_Lead`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from hpcens.checks.preflight import Preflight
from hpcens.dataset.source import sample_rows
from hpcens.files import read_json, write_atomically
from hpcens.planning.io_rates import keep_link, surveyed_rates
from hpcens.planning.job_planner import JobPlanner
from hpcens.planning.numerics import fingerprint_under
from hpcens.planning.phases import Assignment, phases_of, require_room_for
from hpcens.profiling.book import ProfileBook
from hpcens.profiling.io_survey import IoSurvey, survey_io
from hpcens.profiling.measuring import measure_on
from hpcens.result.description import scored_form
from hpcens.result.form import Form
from hpcens.roles.rank_roles import Hello, RankRoles, recruit, room
from hpcens.runs import Epoch, Events, RunDirectory
from hpcens.specs import Job
from hpcens.vocabulary import Measurement, Plan, Profile, ProfileKey, Rows

if TYPE_CHECKING:
    from hpcens.transports.mpi import MpiWorld


def open_start(
    world: MpiWorld,
    run: RunDirectory,
    epoch: Epoch,
    job: Job,
    preflight: Preflight,
    rank_roles: RankRoles,
    hellos: Sequence[Hello],
    events: Events | None,
    *,
    only_profile: bool,
) -> Assignment | None:
    """Do all that comes before the first batch; every rank calls it.

    hellos  by which the roles were assigned; empty elsewhere than at rank 0
    events  of this start, at rank 0 alone
    Returns what rank 0 decided, the same on every rank; None where only profiles were wanted.
    """
    lead = None
    if events is not None:
        planner = JobPlanner(job, preflight, ProfileBook.default())
        lead = _Lead(job, preflight, planner, run, epoch, rank_roles, hellos, events, world.work)
    todo: _Todo = world.broadcast(lead.todo() if lead is not None else None)
    own = todo.measurements.get(world.rank, ())
    measured = world.gather(
        world.work(partial(measure_on, rank_roles.devices[world.rank], own, todo.rows, job, preflight)) if own else []
    )
    survey = None if only_profile else survey_io(world, rank_roles.farthest, todo.readers, job)
    assignment = None
    if lead is not None:
        lead.keep_profiles(pair for pairs in measured for pair in pairs)
        if survey is not None:
            assignment = lead.decide(survey)
    answer: Assignment | None = world.broadcast(assignment)
    return answer


@dataclass(frozen=True, slots=True)
class _Todo:
    """What is to be measured before there can be a plan.

    measurements  of members, by the rank of the device that does them
    rows          of the dataset, for each input, on which members are measured
    readers       ranks that may be readers
    """

    measurements: Mapping[int, Sequence[Measurement]]
    rows: Rows
    readers: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Lead:
    """Rank 0, which decides for all.

    work  runs a task that takes long while the rank's heartbeat goes on
    """

    job: Job
    preflight: Preflight
    planner: JobPlanner
    run: RunDirectory
    epoch: Epoch
    rank_roles: RankRoles
    hellos: Sequence[Hello]
    events: Events
    work: Callable[[Callable[[], Any]], Any]

    def todo(self) -> _Todo:
        """Share the missing profiles among the devices, and say which ranks survey reading."""
        measurements = self.planner.needs.unmeasured(self.rank_roles.devices)
        if measurements:
            self.events.add("profiling", members=sum(map(len, measurements.values())))
        largest = max((max(m.batch_sizes) for ms in measurements.values() for m in ms), default=0)
        readers, _ = room(self.rank_roles, self.hellos)
        able = recruit(self.rank_roles, self.hellos, readers=readers, reducers=1).readers
        return _Todo(measurements, self._sample(largest), able)

    def keep_profiles(self, measured: Iterable[tuple[ProfileKey, Profile]]) -> None:
        """Note in the book what the devices have measured."""
        pairs = list(measured)
        self.planner.needs.note(pairs)
        if pairs:
            self.events.add("profiled")

    def decide(self, survey: IoSurvey) -> Assignment:
        """Plan, fix the fingerprint under the plan, form the phases, and leave all of it in the run directory."""
        job, rank_roles = self.job, self.rank_roles
        keep_link(survey, rank_roles, self.planner.needs.book)
        devices = tuple(rank_roles.devices[rank] for rank in sorted(rank_roles.devices))
        rates = self.work(lambda: surveyed_rates(job, survey, self.planner.result_bytes(devices)))
        readers, reducers = room(rank_roles, self.hellos)
        plan = self.planner.plan(devices, rates, readers=readers, reducers=reducers)
        tree = fingerprint_under(plan.numerics, job, self.preflight)
        if read_json(self.run.fingerprint) != tree:
            write_atomically(self.run.fingerprint, json.dumps(tree, indent=1))
        write_atomically(self.epoch.plan, plan.to_json())
        self.events.add("planned", throughput=plan.throughput, bound=plan.bound, limit=plan.limit)
        shape = self.planner.output_shape(devices)
        phases = phases_of(self.run, plan, self._form(plan, tree, shape), shape)
        require_room_for(job, self.run, phases)
        prepared = (numerics.batch for numerics in plan.numerics.members.values() if numerics.runtime != "eager")
        rows = self._sample(max(prepared, default=0))
        crew = recruit(rank_roles, self.hellos, readers=plan.readers, reducers=plan.reducers)
        return Assignment(job, self.preflight, crew, plan, shape, phases, rows)

    def _form(self, plan: Plan, tree: Mapping[str, Any], shape: tuple[int, ...]) -> Form:
        return scored_form(
            self.job,
            facts=self.preflight.facts,
            digests=self.preflight.digests,
            shape=shape,
            space=self.preflight.space,
            tree=tree,
            plan=plan,
            library=self.hellos[0].library,
        )

    def _sample(self, rows: int) -> Rows:
        """So many real rows of the dataset, for each input."""
        job = self.job
        return self.work(lambda: sample_rows(job.datasets, job.spec.dataset, job.limit, rows)) if rows else ()
