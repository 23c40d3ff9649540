"""Needs: what has to be measured of a job's members before it is planned, and what is known already."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf
from pathlib import Path

from hpcens.checks.preflight import Preflight
from hpcens.engine import discover, driver
from hpcens.errors import UsageError
from hpcens.members import speed_digest
from hpcens.profiling.book import ProfileBook
from hpcens.profiling.evening import evened
from hpcens.profiling.grouping import GROUP_SECONDS, Grouping
from hpcens.profiling.groups import group_key, profile_key
from hpcens.profiling.load import is_idle
from hpcens.profiling.precisions import is_chosen, is_judged, off_float32, rivals, shortfall
from hpcens.profiling.sizes import sizes_to_try
from hpcens.runs import RunDirectory, findings
from hpcens.runtimes import runtimes_for
from hpcens.runtimes.agreement import tolerance_in
from hpcens.shell import listed, option
from hpcens.specs import Job, MemberSpec, Precision
from hpcens.vocabulary import Device, ExpectedStage, Family, Measurement, Numerics, Profile, ProfileKey

PROFILE_SECONDS = 10.0
# A runtime has to be faster than eager by more than what measuring may be wrong by.
_WORTH_CHANGING = 1.05
# Members that are measured for the same reason are named up to this number.
_NAMED = 4


@dataclass(frozen=True, slots=True)
class Needs:
    """The members of a job and the book in which their profiles are kept.

    members   those to be scored
    fixed     the numerics that are decided already, if they are
    expected  which part of the rows comes to each stage of a cascade, as far as it is known; () where there is none
    """

    job: Job
    preflight: Preflight
    book: ProfileBook
    members: tuple[MemberSpec, ...]
    fixed: Numerics | None
    expected: tuple[ExpectedStage, ...] = ()

    @property
    def parts(self) -> dict[str, float]:
        """The part of all rows that each member scores, of those that do not score all."""
        parts = dict(self.preflight.facts.parts)
        for stage in self.expected[1:]:
            parts |= {member: parts.get(member, 1.0) * stage.part for member in stage.members}
        return parts

    def local_devices(self) -> tuple[Device, ...]:
        """Return the devices of this host that the job asks for."""
        return discover(self.job.spec.devices)

    def batch_sizes(self, member: str, family: Family) -> tuple[int, ...]:
        """Return batch sizes to choose from: those that the dataset can fill, or the one that is fixed."""
        fixed = self.fixed
        if fixed is not None and member in fixed.members:
            return (fixed.members[member].batch,)
        if fixed is not None and not self.preflight.stored:
            raise UsageError(
                f"the plan {self.job.plan} has no member {member!r}", "plan again: hpcens plan DATASET -o PLAN.JSON"
            )
        facts = self.preflight.facts
        sizes = sorted(self.job.spec.plan.batch_sizes or sizes_to_try(family, facts.row_bytes))
        return tuple(size for size in sizes if size <= facts.rows) or (sizes[0],)

    def runtimes(self, member: MemberSpec, family: Family) -> tuple[str, ...]:
        """Return runtimes to choose from, or the one that is fixed, by numerics or by the YAML."""
        fixed, wanted = self.fixed, self.job.spec.plan.runtime
        if fixed is not None and member.name in fixed.members:
            runtimes: tuple[str, ...] = (fixed.members[member.name].runtime,)
        else:
            runtimes = runtimes_for(member, family) if wanted == "auto" else (wanted,)
        return self._require_right(member.name, *runtimes)

    @property
    def grouping(self) -> Grouping:
        """What is to be known of equal members, which may run as one."""
        return Grouping(
            *(self.job, self.preflight, self.book, self.members, self.fixed),
            batch_sizes=self.batch_sizes,
            wrong=self._wrong,
            require_right=self._require_right,
        )

    @property
    def _alone(self) -> tuple[MemberSpec, ...]:
        """Members that may run by themselves."""
        settled = {member.name for group in self.grouping.settled.values() for member in group}
        return tuple(member for member in self.members if member.name not in settled)

    def _require_right(self, member: str, *runtimes: str) -> tuple[str, ...]:
        """Return those of the runtimes in which the member was not wrong in this run; raise UsageError without."""
        right = tuple(runtime for runtime in runtimes if (member, runtime) not in self._wrong())
        if not right:
            raise UsageError(
                f"member {member} gave wrong values in {runtimes[0]} in this run, and is to run in it alone",
                f"write plan.runtime: auto or eager in the YAML, and give no {option('plan')}",
            )
        return right

    def _wrong(self) -> set[tuple[str, str]]:
        """Return members with the runtimes in which they gave wrong values in this run."""
        return {(finding.member, finding.runtime) for finding in findings(RunDirectory.of(self.job.output).path)}

    def unmeasured(self, devices: Mapping[int, Device]) -> dict[int, list[Measurement]]:
        """Share what is to be measured among device ranks: devices of one kind share the members among them."""
        ranks: dict[str, list[int]] = {}
        for rank, device in devices.items():
            ranks.setdefault(device.kind, []).append(rank)
        todo: dict[int, list[Measurement]] = {}
        alone, grouping = self._alone, self.grouping
        for kind, ranks_of_kind in ranks.items():
            family = devices[ranks_of_kind[0]].family
            missing = [m for member in alone if (m := self._measurement(member, kind, family)) is not None]
            groups = [m for name in grouping.groups if (m := grouping.measurement(name, kind, family)) is not None]
            for seconds, of in ((PROFILE_SECONDS, missing), (GROUP_SECONDS, groups)):
                rounds = -(-len(of) // len(ranks_of_kind))
                for i, measurement in enumerate(of):
                    own = replace(measurement, seconds=seconds / rounds)
                    todo.setdefault(ranks_of_kind[i % len(ranks_of_kind)], []).append(own)
        return todo

    def _measurement(self, member: MemberSpec, kind: str, family: Family) -> Measurement | None:
        """Return what is not known yet of a member on devices of the kind; None where all is."""
        sizes, rows = self.batch_sizes(member.name, family), self.preflight.facts.rows
        tolerance = tolerance_in(member.computes_in, self.job.spec.plan.tolerance)
        keys = self._keys(member, kind, family)
        thorough = self.job.thorough or len(keys) == 1
        lacks = self._lacks(member, family, keys, inf if thorough else rows)
        missing = {runtime: keys[runtime] for runtime in lacks}
        known = [profile for key in keys.values() if (profile := self.book.get(key)) is not None]
        pace = max((profile.best for profile in known), default=0.0)
        rivals = self._rivals(member, kind, family, pace)
        if not missing and not rivals:
            return None
        kept = self.book.get(profile_key(self.preflight, member, kind, "eager"))
        eager = kept if kept is not None and not set(sizes).isdisjoint(kept.batches) else None
        why = "; ".join(dict.fromkeys(lacks.values())) or f"not compared with {listed(list(rivals), 3)} before"
        of_rivals = self.job.spec.plan.precision_tolerance
        return Measurement(
            *(member, missing, sizes, PROFILE_SECONDS, rows, tolerance, thorough, eager, why),
            *(rivals, pace, of_rivals),
        )

    def _keys(self, member: MemberSpec, kind: str, family: Family) -> dict[str, ProfileKey]:
        """Return runtime → key of a member's profiles on a kind of device."""
        runtimes = self.runtimes(member, family)
        return {runtime: profile_key(self.preflight, member, kind, runtime) for runtime in runtimes}

    def _lacks(self, member: MemberSpec, family: Family, keys: Mapping[str, ProfileKey], rows: float) -> dict[str, str]:
        """Say of each runtime of a member what is not known yet; nothing of those of which all is."""
        sizes, idle = self.batch_sizes(member.name, family), self.fixed is None and is_idle()
        tolerance = tolerance_in(member.computes_in, self.job.spec.plan.tolerance)
        under = driver() if self.fixed is None and family == "cuda" else ""
        found = {
            runtime: self.book.lack(key, sizes, rows=rows, tolerance=tolerance, idle=idle, driver=under)
            for runtime, key in keys.items()
        }
        return {runtime: lack for runtime, lack in found.items() if lack}

    def _rivals(
        self, member: MemberSpec, kind: str, family: Family, pace: float
    ) -> dict[Precision, Mapping[str, ProfileKey]]:
        """Return what is to be measured of a member whose precision is to be chosen. pace: see `Measurement`."""
        wanted: dict[Precision, Mapping[str, ProfileKey]] = {}
        rows = inf if self.job.thorough else self.preflight.facts.rows
        for precision in rivals(member, family):
            narrow = replace(member, precision=precision)
            keys = self._keys(narrow, kind, family)
            first = self.book.get(next(iter(keys.values())))
            lacks = self._lacks(narrow, family, keys, rows)
            known = first is not None and is_judged(first, self.preflight.facts.rows) and next(iter(keys)) not in lacks
            if first is not None and known and shortfall(first, pace, self.job.spec.plan.precision_tolerance):
                continue
            if lacks or not known:
                wanted[precision] = keys
        return wanted

    def note(self, measured: Iterable[tuple[ProfileKey, Profile]]) -> None:
        """Keep profiles that were measured in the book."""
        for key, profile in measured:
            self.book.put(key, profile)

    def profiles(self, kind: str, family: Family) -> dict[tuple[str, str], Profile]:
        """Return (member, runtime) → profile on a kind of device, of runtimes in which a member is to be taken.

        What members have in common takes one time, see `evened`.

        Raises UsageError where of a member nothing was measured, or the one runtime that is left cannot be used.
        """
        usable = {member.name: self.usable(member, kind, family) for member in self._alone}
        alike = {m.name: (speed_digest(self.preflight.digests[m.name]), m.computes_in) for m in self._alone}
        even = evened(usable, alike, {member.name: member.preparation for member in self._alone})
        taken = {member: _worth_taking(profiles) for member, profiles in even.items()}
        return {(member, runtime): profile for member, own in taken.items() for runtime, profile in own.items()}

    def usable(self, member: MemberSpec, kind: str, family: Family) -> dict[str, Profile]:
        """Return runtime → profile, of those in which the member runs and agrees with eager.

        In a precision that is chosen for it, with float32 too.
        """
        spec, fixed, rows = self.job.spec.plan, self.fixed, self.preflight.facts.rows
        usable: dict[str, Profile] = {}
        why = ""
        for runtime in self.runtimes(member, family):
            profile = self.book.get(profile_key(self.preflight, member, kind, runtime))
            if profile is None:
                continue
            if profile.refused or profile.difference > tolerance_in(member.computes_in, spec.tolerance):
                apart = f"it differs from eager by {profile.difference:.2g}, more than plan.tolerance"
                why = f"member {member.name} cannot run in {runtime} on {kind}: {profile.refused or apart}"
                continue
            if is_chosen(member, self.job.spec, fixed) and (
                off := off_float32(profile, rows, spec.precision_tolerance)
            ):
                why = f"member {member.name} cannot run in {runtime} on {kind} in {member.computes_in}: {off}"
                continue
            if fixed is not None and member.name in fixed.members:
                batch = fixed.members[member.name].batch
                profile = replace(profile, batches={b: p for b, p in profile.batches.items() if b == batch})
            usable[runtime] = profile
        if not usable and why:
            raise UsageError(why, "write plan.runtime: auto in the YAML, which takes the fastest that agrees")
        if not usable:
            raise UsageError(
                f"there is no profile of member {member.name} on {kind}", "measure it: hpcens profile DATASET"
            )
        return usable


def _worth_taking(profiles: Mapping[str, Profile]) -> dict[str, Profile]:
    """Leave out runtimes that are not faster than eager by more than what measuring may be wrong by."""
    worth = _WORTH_CHANGING * profiles["eager"].best if "eager" in profiles else 0.0
    return {runtime: profile for runtime, profile in profiles.items() if runtime == "eager" or profile.best >= worth}


def reasons(measurements: Iterable[Measurement]) -> tuple[str, ...]:
    """Say of which members what is measured, those for the same reason together."""
    members: dict[str, list[str]] = {}
    for measurement in measurements:
        members.setdefault(measurement.why, []).append(measurement.member.name)
    return tuple(f"{listed(alike, _NAMED)}: {why}" for why, alike in members.items())


def package_path(
    preflight: Preflight, kind: str, member: MemberSpec, runtime: str, group: Sequence[MemberSpec] = ()
) -> Path:
    """Return where is kept what took long to prepare of a member in a runtime; without the batch size and a suffix.

    group  the members that run as one, where the member is one of them
    """
    key = group_key(preflight, group, kind) if group else profile_key(preflight, member, kind, runtime)
    return ProfileBook.default().prepared / key.package
