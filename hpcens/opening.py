"""The opening: from what the ranks found to a plan. Asked by rank 0 before the first batch, and by `hpcens plan`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from math import inf
from typing import Any

from hpcens.classes import check_shapes
from hpcens.config import spec_to_json
from hpcens.description import description, members_of
from hpcens.devices import Device, Family
from hpcens.errors import FingerprintMismatch, UsageError
from hpcens.experience import corrected, experience, reached, tells
from hpcens.fingerprint import fingerprint, require_same
from hpcens.matrix import Numerics, Plan, numerics_from_dict
from hpcens.members import digest_of
from hpcens.outputs import outputs_of
from hpcens.planners import plan
from hpcens.planners.problem import Passage, Problem
from hpcens.preflight import Preflight, numerics_of, torch_version
from hpcens.profiles import Measurement, Profile, ProfileBook, ProfileKey
from hpcens.rundir import RunDirectory, read_json
from hpcens.runtimes.catalogue import runtimes_for
from hpcens.segments import Segmentation
from hpcens.specs import Job, MemberSpec
from hpcens.store.columns import Columns
from hpcens.store.finished import Finished, fingerprint_of
from hpcens.store.form import Form

_SEGMENT_BYTES = 8 << 20
_SEGMENTS_HELD = 3
PROFILE_SECONDS = 10.0
# A runtime has to be faster than eager by more than what measuring may be wrong by.
_WORTH_CHANGING = 1.05


class Opening:
    """Everything known about a job before it is planned."""

    def __init__(self, job: Job, preflight: Preflight, book: ProfileBook) -> None:
        self.job = job
        self.preflight = preflight
        self._book = book
        self._torch = torch_version()

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

    def batch_sizes(self, member: str) -> tuple[int, ...]:
        """Batch sizes to choose from: those of the YAML the dataset can fill, or the one that is fixed."""
        fixed = self.fixed()
        if fixed is not None and member in fixed.members:
            return (fixed.members[member].batch,)
        if fixed is not None and not self.preflight.stored:
            raise UsageError(
                f"the plan {self.job.plan} has no member {member!r}", "plan again: hpcens plan DATASET -o PLAN.JSON"
            )
        sizes = sorted(self.job.spec.plan.batch_sizes)
        return tuple(size for size in sizes if size <= self.preflight.facts.rows) or (sizes[0],)

    def runtimes(self, member: MemberSpec, family: Family) -> tuple[str, ...]:
        """Runtimes to choose from, or the one that is fixed, by numerics or by the YAML."""
        fixed, wanted = self.fixed(), self.job.spec.plan.runtime
        if fixed is not None and member.name in fixed.members:
            return (fixed.members[member.name].runtime,)
        return runtimes_for(member, family) if wanted == "auto" else (wanted,)

    def unmeasured(self, devices: Mapping[int, Device]) -> dict[int, list[Measurement]]:
        """Which device rank is to measure what: devices of one kind share the members among them."""
        ranks: dict[str, list[int]] = {}
        for rank, device in devices.items():
            ranks.setdefault(device.kind, []).append(rank)
        todo: dict[int, list[Measurement]] = {}
        for kind, of in ranks.items():
            family = devices[of[0]].family
            missing = [m for member in self.members if (m := self._measurement(member, kind, family)) is not None]
            rounds = -(-len(missing) // len(of))
            for i, measurement in enumerate(missing):
                mine = replace(measurement, seconds=PROFILE_SECONDS / rounds)
                todo.setdefault(of[i % len(of)], []).append(mine)
        return todo

    def _measurement(self, member: MemberSpec, kind: str, family: Family) -> Measurement | None:
        """What is not known yet of a member on devices of the kind; None where all is."""
        sizes, rows = self.batch_sizes(member.name), self.preflight.facts.rows
        tolerance = self.job.spec.plan.tolerance
        keys = {
            runtime: profile_key(self.preflight, member, kind, runtime) for runtime in self.runtimes(member, family)
        }
        thorough = self.job.thorough or len(keys) == 1
        worth = inf if thorough else rows
        missing = {
            runtime: key
            for runtime, key in keys.items()
            if not self._book.covers(key, sizes, rows=worth, tolerance=tolerance)
        }
        if not missing:
            return None
        known = self._book.get(profile_key(self.preflight, member, kind, "eager"))
        eager = known if known is not None and not set(sizes).isdisjoint(known.batches) else None
        return Measurement(member, missing, sizes, PROFILE_SECONDS, rows, tolerance, thorough, eager)

    def note(self, measured: Iterable[tuple[ProfileKey, Profile]]) -> None:
        for key, profile in measured:
            self._book.put(key, profile)

    def problem(self, devices: Sequence[Device], passage: Passage) -> Problem:
        """Raises UsageError where members disagree on the shape of their output."""
        names = tuple(member.name for member in self.members)
        families = {device.kind: device.family for device in devices}
        profiles = {
            (kind, member.name, runtime): profile
            for kind, family in families.items()
            for member in self.members
            for runtime, profile in self._profiles(member, kind, family).items()
        }
        shapes = {member: profile.output_shape for (_, member, _), profile in profiles.items()} | self._stored_shapes()
        check_shapes(shapes)
        largest = max(max(self.batch_sizes(member)) for member in names)
        held = _SEGMENTS_HELD * max(_SEGMENT_BYTES, largest * self.preflight.facts.row_bytes)
        return Problem(
            devices=tuple(devices),
            members=names,
            profiles=profiles,
            held=held,
            reading=passage.reading,
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

    def _profiles(self, member: MemberSpec, kind: str, family: Family) -> dict[str, Profile]:
        """Runtime → profile, of those in which the member runs and agrees with eager.

        Raises UsageError where nothing was measured, or the one runtime that is left cannot be used.
        """
        spec, fixed = self.job.spec.plan, self.fixed()
        found: dict[str, Profile] = {}
        why = ""
        for runtime in self.runtimes(member, family):
            profile = self._book.get(profile_key(self.preflight, member, kind, runtime))
            if profile is None:
                continue
            if profile.refused or profile.difference > spec.tolerance:
                apart = f"it differs from eager by {profile.difference:.2g}, more than plan.tolerance"
                why = f"member {member.name} cannot run in {runtime} on {kind}: {profile.refused or apart}"
                continue
            if fixed is not None and member.name in fixed.members:
                batch = fixed.members[member.name].batch
                profile = replace(profile, batches={b: p for b, p in profile.batches.items() if b == batch})
            found[runtime] = profile
        if len(found) > 1 and "eager" in found:
            worth = _WORTH_CHANGING * found["eager"].best
            found = {name: of for name, of in found.items() if name == "eager" or of.best >= worth}
        if not found and why:
            raise UsageError(why, "write plan.runtime: auto in the YAML, which takes the fastest that agrees")
        if not found:
            raise UsageError(
                f"there is no profile of member {member.name} on {kind}", "measure it: hpcens profile DATASET"
            )
        return found

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
            batch_sizes=tuple(sorted({size for m in self.members for size in self.batch_sizes(m.name)})),
            rows=facts.rows,
            row_bytes=facts.row_bytes,
            output_bytes=self._output_bytes(next(iter(problem.profiles.values())).output_shape),
            torch=self._torch,
        )
        if earlier is not None:
            gained = f"{made.throughput:,.0f} rows/s where the earlier ones make {reached(earlier, speeds):,.0f}"
            made = replace(made, remark=f"shares follow the speeds measured so far: {gained}")
        return replace(
            made, numerics=self._precise(made.numerics) if fixed is None else self._keep(made.numerics, fixed)
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
            attributes=description(spec, tree, members=members, datasets=self.job.datasets, library=library),
            classes=spec.classes or (),
            documents={"plan": plan.to_json(), "config": spec_to_json(spec)},
            compression=spec.output.compression,
            columns=Columns(self.job.datasets, spec.dataset, self.job.limit).copy if spec.dataset.columns else None,
        )

    def fix(self, plan: Plan) -> dict[str, Any]:
        """The fingerprint under this plan. Raises FingerprintMismatch where the run was made of something else."""
        before = self._tree()
        numerics = plan.numerics
        if self.preflight.stored:
            members = dict(numerics_from_dict(numerics_of(before)).members) | dict(numerics.members)
            numerics = replace(numerics, members=members)
        tree = fingerprint(
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


def profile_key(preflight: Preflight, member: MemberSpec, kind: str, runtime: str) -> ProfileKey:
    """What a profile of the member is kept under."""
    digest = digest_of(dict(preflight.digests[member.name]))
    return ProfileKey(kind, digest, runtime, preflight.facts.row, torch_version(), member.precision)
