"""Decide for all ranks of a start: what is to be measured, and the assignment that they follow. No collectives."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hpcens.checks.preflight import Preflight
from hpcens.planning.io_rates import keep_link, with_survey
from hpcens.planning.job_planner import JobPlanner
from hpcens.planning.numerics import fingerprint_under, in_precisions
from hpcens.planning.phases import Assignment, phases_of, require_room_for
from hpcens.planning.unsteady import unsteady_outputs
from hpcens.profiling import JUDGED, IoSurvey, MissingRates, measure_io, reasons, rows_to_sample, sample, spread
from hpcens.result import Decision, Form, pass_entropies, refuse_phases, require_room_for_parts, scored_form
from hpcens.roles import Hello, RankRoles, extend_roles, most_readers_and_reducers
from hpcens.runs import Epoch, Events, PlanMade, ProfilingBegan, ProfilingEnded, RunDirectory
from hpcens.specs import Job
from hpcens.vocabulary import NO_SEGMENTS, Plan, Profile, ProfileKey, Rows

# Of the dataset, besides those for which a runtime is prepared, on which it is held against eager.
_OTHER_ROWS = 64


@dataclass(frozen=True, slots=True)
class Lead:
    """Rank 0 of a start, which decides for all.

    hellos  by which the roles were assigned
    work    runs a task that takes long while the rank's heartbeat goes on
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

    def missing(self) -> MissingRates:
        """Share what is not measured yet among the ranks; of a cascade a sample is scored first, here."""
        if self.job.spec.cascade:
            self.work(self.planner.expect)
        measurements = self.planner.needs.unmeasured(self.rank_roles.devices)
        if measurements:
            every = [measurement for own in measurements.values() for measurement in own]
            self.events.add(ProfilingBegan(len(every), reasons(every)))
        largest = max((max(m.batch_sizes) for own in measurements.values() for m in own), default=0)
        readers, _ = most_readers_and_reducers(self.rank_roles, self.hellos)
        able = extend_roles(self.rank_roles, self.hellos, readers=readers, reducers=1).readers
        judging = any(m.rivals for own in measurements.values() for m in own)
        count = JUDGED if judging else _OTHER_ROWS
        others = self.work(lambda: spread(self.job, count)) if measurements else ()
        return MissingRates(measurements, self._sample(largest), others, able)

    def keep_profiles(self, measured: Iterable[tuple[ProfileKey, Profile]]) -> None:
        """Note in the book what the devices have measured."""
        pairs = list(measured)
        for device in self.rank_roles.devices.values():
            if device.family == "cuda":
                self.planner.needs.book.put_memory(device.kind, device.memory)
        self.planner.needs.note(pairs)
        if pairs:
            self.events.add(ProfilingEnded())

    def decide(self, survey: IoSurvey) -> Assignment:
        """Plan, fix the fingerprint under the plan, form the phases, and leave all of it in the run directory."""
        rank_roles = self.rank_roles
        keep_link(survey, rank_roles, self.planner.needs.book)
        devices = tuple(rank_roles.devices[rank] for rank in sorted(rank_roles.devices))
        rates = with_survey(self.work(lambda: measure_io(self.job, self.planner.result_bytes(devices))), survey)
        readers, reducers = most_readers_and_reducers(rank_roles, self.hellos)
        plan = self.planner.plan(devices, rates, readers=readers, reducers=reducers)
        job = in_precisions(self.job, plan.numerics)
        tree = fingerprint_under(plan.numerics, job, self.preflight)
        self.run.fix_fingerprint(tree, self.epoch)
        self.epoch.keep_plan(plan)
        self.events.add(PlanMade(plan.throughput, plan.bound, plan.limit))
        shape = self.planner.output_shape(devices)
        form = self._form(plan, tree, shape)
        beside = pass_entropies(job.spec, shape, self.preflight.space)
        phases = phases_of(self.run, plan, form, shape, beside, job.spec.cascade)
        if job.segments is not None:
            refuse_phases(plan)
        if job.segments == NO_SEGMENTS:
            require_room_for_parts(job, form)
            Decision(
                tree, plan, shape, self.hellos[0].library, self._unsteady(plan), tuple(self.preflight.warnings)
            ).keep(self.epoch)
        require_room_for(job, self.run, phases)
        runs = plan.numerics.members.values()  # on a GPU members are warmed up, in eager too
        prepared = (numerics.batch for numerics in runs if numerics.runtime != "eager" or rank_roles.gpus)
        rows = self._sample(max(prepared, default=0))
        crew = extend_roles(rank_roles, self.hellos, readers=plan.readers, reducers=plan.reducers)
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
            unsteady=self._unsteady(plan),
            warnings=self.preflight.warnings,
        )

    def _unsteady(self, plan: Plan) -> dict[str, dict[str, Any]]:
        return unsteady_outputs(in_precisions(self.job, plan.numerics), self.preflight, self.planner.needs.book, plan)

    def _sample(self, rows: int) -> Rows:
        """Read real rows of the dataset, for each input: so many, or as many as batches of that size are made of."""
        rows = rows_to_sample(rows, self.preflight.facts.row_bytes)
        return self.work(lambda: sample(self.job, rows)) if rows else ()
