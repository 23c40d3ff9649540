"""The opening: from what the ranks found to a plan. Asked by rank 0 before the first batch, and by `hpcens plan`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from math import inf
from statistics import median
from typing import Any

from hpcens.allocation import plan
from hpcens.allocation.problem import Passage, Problem
from hpcens.checks.preflight import Preflight
from hpcens.config import spec_to_json
from hpcens.dataset.columns import Columns
from hpcens.errors import FingerprintMismatch
from hpcens.files import read_json
from hpcens.planning.experience import corrected, experience, reached, scaled, tells
from hpcens.profiling.book import ProfileBook
from hpcens.profiling.needs import Measuring
from hpcens.result.description import describe_result, members_of
from hpcens.result.fingerprint import make_fingerprint, numerics_of, require_same, torch_version
from hpcens.result.finished import Finished, fingerprint_of
from hpcens.result.form import Form
from hpcens.result.outputs import outputs_of
from hpcens.runs import RunDirectory
from hpcens.specs import Job, MemberSpec
from hpcens.specs.classes import check_shapes
from hpcens.vocabulary import Device, Numerics, Plan, Segmentation, numerics_from_dict

_SEGMENT_BYTES = 8 << 20
_SEGMENTS_HELD = 3


class JobPlanner:
    """Everything known about a job before it is planned."""

    def __init__(self, job: Job, preflight: Preflight, book: ProfileBook) -> None:
        self.job = job
        self.preflight = preflight
        self._torch = torch_version()
        self.measuring = Measuring(job, preflight, book, self.members, self.fixed())

    @property
    def run(self) -> RunDirectory:
        return RunDirectory.of(self.job.output)

    @property
    def members(self) -> tuple[MemberSpec, ...]:
        """Those to be scored: all whose outputs are not stored already."""
        return tuple(member for member in self.job.spec.members if member.name not in self.preflight.stored)

    def _tree(self) -> Any:
        """The fingerprint by which this run's numbers are fixed: its own, or that of the result it adds to."""
        return read_json(self.run.fingerprint) or (fingerprint_of(self.job.output) if self.preflight.stored else None)

    def fixed(self) -> Numerics | None:
        """The numerics that are decided already, by an earlier start of this run, a stored result or a given plan."""
        tree, given = self._tree(), self.job.plan
        if tree is not None:
            decided = numerics_from_dict(numerics_of(tree))
        elif given is not None:
            decided = self._precise(Plan.load(given).numerics)
        else:
            return None
        scored = {member.name for member in self.members}
        return replace(decided, members={name: of for name, of in decided.members.items() if name in scored})

    def _precise(self, numerics: Numerics) -> Numerics:
        """Precision is not the planner's to choose, but each member's own."""
        precisions = {member.name: member.precision for member in self.job.spec.members}
        members = {
            name: replace(of, precision=precisions.get(name, of.precision)) for name, of in numerics.members.items()
        }
        return replace(numerics, members=members)

    def problem(self, devices: Sequence[Device], passage: Passage) -> Problem:
        """Raises UsageError where members disagree on the shape of their output."""
        names = tuple(member.name for member in self.members)
        families = {device.kind: device.family for device in devices}
        parts = {kind: median(self.measuring.book.reached(kind) or [1.0]) for kind in families}
        profiles = {
            (kind, member.name, runtime): scaled(profile, parts[kind])
            for kind, family in families.items()
            for member in self.members
            for runtime, profile in self.measuring.profiles(member, kind, family).items()
        }
        shapes = {member: profile.output_shape for (_, member, _), profile in profiles.items()} | self._stored_shapes()
        check_shapes(shapes)
        largest = max(max(self.measuring.batch_sizes(member)) for member in names)
        held = _SEGMENTS_HELD * max(_SEGMENT_BYTES, largest * self.preflight.facts.row_bytes)
        return Problem(
            devices=tuple(devices),
            members=names,
            profiles=profiles,
            held=held,
            reading=passage.reading,
            together=passage.together,
            sending=passage.link / self.preflight.facts.row_bytes,
            writing=passage.disk / self._output_bytes(next(iter(shapes.values()))),
            readers=passage.readers,
            reducers=passage.reducers,
        )

    def _stored_shapes(self) -> dict[str, tuple[int, ...]]:
        if not self.preflight.stored:
            return {}
        result = Finished(self.job.output)
        result.close()
        return {member: result.output(f"members/{member}").shape for member in self.preflight.stored}

    def plan(self, devices: Sequence[Device], passage: Passage) -> Plan:
        """The given or the earlier plan where the devices are the same, else a new one; numerics kept.

        A new one too where instances were faster or slower than planned, so that shares follow what was measured, and
        where an earlier start had more readers or reducers than there may be now."""
        problem = self.problem(devices, passage)
        fixed = self.fixed()
        speeds = experience(self.run) if fixed is not None else {}
        earlier = None
        for known in self._known_plans(passage):
            if known.devices == tuple(devices) and known.numerics == fixed:
                if not tells(known, speeds):
                    return known
                earlier = known
                break
        problem = corrected(problem, speeds)
        facts = self.preflight.facts
        made = plan(
            problem,
            planner=self.job.spec.plan.planner,
            batch_sizes=tuple(sorted({size for m in self.members for size in self.measuring.batch_sizes(m.name)})),
            rows=facts.rows,
            row_bytes=facts.row_bytes,
            output_bytes=self._output_bytes(next(iter(problem.profiles.values())).output_shape),
            torch=self._torch,
        )
        if earlier is not None:
            gained = f"{made.throughput:,.0f} rows/s where the earlier ones make {reached(earlier, speeds):,.0f}"
            made = replace(made, remark=f"shares follow the speeds measured so far: {gained}")
        return replace(
            made,
            numerics=self._precise(made.numerics) if fixed is None else self._keep(made.numerics, fixed),
            together=problem.read_by(made.readers) if made.readers > 1 and passage.together < inf else None,
            link=None if passage.link == inf else passage.link,
            disk=None if passage.disk == inf else passage.disk,
            message=passage.message,
            sync=passage.sync,
        )

    def _output_bytes(self, shape: tuple[int, ...]) -> int:
        return sum(output.row_bytes for output in outputs_of(self.job.spec, shape, self.preflight.space))

    def _known_plans(self, passage: Passage) -> Iterable[Plan]:
        if self.job.plan is not None:
            yield Plan.load(self.job.plan)
        for epoch in self.run.epochs():
            if epoch.plan.exists():
                known = Plan.load(epoch.plan)
                if known.readers <= passage.readers and known.reducers <= passage.reducers:
                    yield known

    def _keep(self, made: Numerics, fixed: Numerics) -> Numerics:
        strange = [kind for kind in made.kinds if kind not in fixed.kinds]
        if strange or made.torch != fixed.torch:
            raise FingerprintMismatch(
                f"this run's numbers were fixed for {', '.join(fixed.kinds)} and torch {fixed.torch};"
                f" here are {', '.join(made.kinds)} and torch {made.torch}",
                "continue it on devices of the same kind, or score into another output",
            )
        return replace(fixed, members=dict(made.members) | dict(fixed.members))

    def shape(self, devices: Sequence[Device]) -> tuple[int, ...]:
        """Of a member's output for one row."""
        return next(iter(self.problem(devices, Passage()).profiles.values())).output_shape

    def result_bytes(self, devices: Sequence[Device]) -> int:
        return self.preflight.facts.rows * self._output_bytes(self.shape(devices))

    def form(self, plan: Plan, tree: Mapping[str, Any], shape: tuple[int, ...], library: str) -> Form:
        """What the result looks like, and says of itself."""
        spec, preflight = self.job.spec, self.preflight
        members = members_of(spec, preflight.digests)
        return Form(
            outputs=outputs_of(spec, shape, preflight.space),
            segmentation=Segmentation(preflight.facts.rows, plan.numerics.segment_rows),
            attributes=describe_result(spec, tree, members=members, datasets=self.job.datasets, library=library),
            classes=spec.classes or (),
            documents={"plan": plan.to_json(), "config": spec_to_json(spec)},
            compression=spec.output.compression,
            columns=self._columns().copy if spec.dataset.columns else None,
        )

    def _columns(self) -> Columns:
        job = self.job
        return Columns(job.datasets, job.spec.dataset, job.limit, self.preflight.facts.identity)

    def fix(self, plan: Plan) -> dict[str, Any]:
        """The fingerprint under this plan. Raises FingerprintMismatch where the run was made of something else."""
        before = self._tree()
        numerics = plan.numerics
        if self.preflight.stored:
            members = dict(numerics_from_dict(numerics_of(before)).members) | dict(numerics.members)
            numerics = replace(numerics, members=members)
        tree = make_fingerprint(
            self.job.spec,
            data=self.preflight.facts.identity,
            members=self.preflight.digests,
            rule=self.preflight.rule,
            space=self.preflight.space,
            numerics=numerics,
        )
        if before is not None and before["members"].keys() == tree["members"].keys():
            require_same(before, tree, str(self.run.path))
        return tree
