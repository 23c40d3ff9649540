"""Plan a job: asked by rank 0 before the first batch, and by `hpcens plan`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from hpcens.allocation import Problem, plan
from hpcens.checks.preflight import Preflight
from hpcens.engine import driver, gpu_libraries
from hpcens.planning.expectation import kept_stages, sampled_stages
from hpcens.planning.experience import corrected, experience, reached, tells
from hpcens.planning.groups import apart_lines
from hpcens.planning.job_problem import rounded_inputs, state_problem
from hpcens.planning.numerics import fixed_numerics, in_precision, keep_fixed, scored_members, with_precisions
from hpcens.planning.precisions import chosen_precisions
from hpcens.profiling import Needs, ProfileBook
from hpcens.result import torch_version
from hpcens.runs import RunDirectory
from hpcens.specs import Job, MemberSpec
from hpcens.vocabulary import DRIVER, Device, ExpectedStage, IoRates, Plan

# New shares that gain less than a hundredth are taken without a word.
_WORTH_SAYING = 1.01


class JobPlanner:
    """Plans of one job, from the profiles in a book."""

    def __init__(self, job: Job, preflight: Preflight, book: ProfileBook) -> None:
        self._job = job
        self._run = RunDirectory.of(job.output)
        self._rows = preflight.facts.rows
        self._torch = torch_version()
        self._fixed = fixed_numerics(job, preflight)
        members = tuple(in_precision(member, self._fixed) for member in scored_members(job, preflight))
        self.needs = Needs(job, preflight, book, members, self._fixed, self._expected(preflight))

    def expect(self) -> None:
        """Score a sample of the dataset, where it is not known what comes to the stages of a cascade."""
        if any(not stage.sampled for stage in self.needs.expected):
            self.needs = replace(self.needs, expected=sampled_stages(self._job, self.needs.preflight))

    def _expected(self, preflight: Preflight) -> tuple[ExpectedStage, ...]:
        """Return what is known of the stages of a cascade: what an earlier start planned with, or by a sample."""
        if not self._job.spec.cascade:
            return ()
        earlier = (Plan.kept(epoch.plan) for epoch in (self._run.epochs() if self._fixed is not None else ()))
        members = tuple(stage.members for stage in self._job.spec.cascade)
        known = (plan.expected for plan in earlier if plan is not None and plan.expected)
        fitting = (stages for stages in known if tuple(stage.members for stage in stages) == members)
        return next(fitting, None) or kept_stages(self._job, preflight)

    def plan(self, devices: Sequence[Device], rates: IoRates, *, readers: int = 1, reducers: int = 1) -> Plan:
        """Return the given or the earlier plan where the devices are the same, else a new one; numerics kept.

        A new one too where instances were faster or slower than planned, so that shares follow what was measured, and
        where an earlier start had more readers or reducers than there may be now.

        readers, reducers  of them there may be at most
        """
        needs, told = chosen_precisions(self.needs, devices)
        problem = state_problem(needs, devices, rates, readers=readers, reducers=reducers)
        speeds = experience(self._run) if self._fixed is not None else {}
        fitting = (stored for stored in self._stored_plans(readers, reducers) if self._fits(stored, devices))
        earlier = next(fitting, None)
        if earlier is not None and not tells(earlier, speeds):
            return earlier
        new = self._new_plan(corrected(problem, speeds), needs.members)
        if earlier is not None and new.throughput > _WORTH_SAYING * (before := reached(earlier, speeds)):
            gained = f"{_figures(new.throughput)} rows/s, with those of the start before {_figures(before)}"
            new = replace(new, remark=f"shares of the rows follow the speeds of the starts so far: {gained}")
        lines = (new.remark, told, *apart_lines(needs, problem, new), rounded_inputs(needs))
        return replace(new, remark="\n".join(line for line in lines if line))

    def result_bytes(self, devices: Sequence[Device]) -> int:
        """Return the bytes of all outputs of a result that these devices compute."""
        return self._rows * state_problem(self.needs, devices, IoRates()).output_bytes

    def output_shape(self, devices: Sequence[Device]) -> tuple[int, ...]:
        """Return the shape of a member's output for one row."""
        return next(iter(state_problem(self.needs, devices, IoRates()).profiles.values())).output_shape

    def _new_plan(self, problem: Problem, members: Sequence[MemberSpec]) -> Plan:
        families = {device.family for device in problem.devices}
        sizes = {size for m in members for family in families for size in self.needs.batch_sizes(m.name, family)}
        new = plan(
            problem,
            planner=self._job.spec.plan.planner,
            batch_sizes=tuple(sorted(sizes)),
            rows=self._rows,
            torch=self._torch,
            earlier=next((stored.numerics.segment_rows for stored in self._kept_plans()), None),
        )
        numerics = with_precisions(new.numerics, members)
        if any(not kind.startswith("cpu") for kind in numerics.kinds):
            under = {DRIVER: version} if (version := driver()) else {}
            numerics = replace(numerics, libraries=gpu_libraries() | under)
        numerics = numerics if self._fixed is None else keep_fixed(numerics, self._fixed)
        return replace(new, numerics=numerics, expected=self.needs.expected)

    def _fits(self, stored: Plan, devices: Sequence[Device]) -> bool:
        return stored.devices == tuple(devices) and stored.numerics == self._fixed

    def _stored_plans(self, readers: int, reducers: int) -> Iterator[Plan]:
        """Yield the given plan, then those of earlier starts, the newest first, with no more readers and reducers."""
        if self._job.plan is not None:
            yield Plan.load(self._job.plan)
        for stored in self._kept_plans():
            if stored.readers <= readers and stored.reducers <= reducers:
                yield stored

    def _kept_plans(self) -> Iterator[Plan]:
        """Yield the plans of earlier starts, the newest first."""
        return (plan for epoch in self._run.epochs() if (plan := Plan.kept(epoch.plan)) is not None)


def _figures(rows_per_second: float) -> str:
    return f"{rows_per_second:,.0f}" if rows_per_second >= 100 else f"{rows_per_second:.3g}"
