"""What is to be known before equal members can be planned as one, and what is known of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

from hpcens.checks.preflight import Preflight
from hpcens.engine import driver
from hpcens.errors import UsageError
from hpcens.profiling.book import ProfileBook
from hpcens.profiling.groups import Groups, beside, equal_members, fixed_groups, group_key, profile_key, require_grouped
from hpcens.profiling.load import is_idle
from hpcens.profiling.precisions import is_chosen, off_float32
from hpcens.runtimes.agreement import tolerance_in
from hpcens.specs import Job, MemberSpec
from hpcens.specs.groups import grouped_spec
from hpcens.vocabulary import Family, Measurement, Numerics, Profile
from hpcens.vocabulary.groups import STACKED

GROUP_SECONDS = 3.0
"""Seconds that the measurements of all groups may take beside those of members."""


@dataclass(frozen=True)
class Grouping:
    """Groups of a job's members, found once: for who asks several things of them at one time.

    members        that are scored
    fixed          numerics that are decided already
    batch_sizes    of a member on a family of devices, to choose from
    wrong          members with the runtimes in which they gave wrong values in this run
    require_right  raises UsageError where a member gave wrong values in all of these runtimes
    """

    job: Job
    preflight: Preflight
    book: ProfileBook
    members: tuple[MemberSpec, ...]
    fixed: Numerics | None
    batch_sizes: Callable[[str, Family], tuple[int, ...]]
    wrong: Callable[[], set[tuple[str, str]]]
    require_right: Callable[..., tuple[str, ...]]

    @cached_property
    def groups(self) -> Groups:
        """The groups of equal members that may run as one, and those that do: `settled` are."""
        fixed = fixed_groups(self.members, self.fixed, given=self.job.plan is not None)
        free = [m for m in self.members if self.fixed is None or m.name not in self.fixed.members]
        if self.job.spec.plan.runtime not in ("auto", STACKED):
            return fixed
        if self.job.spec.plan.runtime == STACKED:
            found = equal_members(self.job.spec, free, self.preflight, ())
            require_grouped(self.job.spec, free, found)
            return fixed | found
        wrong = {member for member, runtime in self.wrong() if runtime == STACKED}
        return fixed | equal_members(self.job.spec, free, self.preflight, wrong)

    @cached_property
    def settled(self) -> Groups:
        """Those of the groups that are to run as one: fixed by numerics, or by the YAML."""
        settled = fixed_groups(self.members, self.fixed, given=self.job.plan is not None)
        settled = self.groups if self.job.spec.plan.runtime == STACKED else settled
        for group in settled.values():
            for member in group:
                self.require_right(member.name, STACKED)
        return settled

    def measurement(self, name: str, kind: str, family: Family) -> Measurement | None:
        """Return what is not known yet of a group as one on devices of the kind; None where all is."""
        members, rows = self.groups[name], self.preflight.facts.rows
        key, sizes = group_key(self.preflight, members, kind), self.batch_sizes(members[0].name, family)
        tolerance = tolerance_in(members[0].computes_in, self.job.spec.plan.tolerance)
        idle = self.fixed is None and is_idle()
        under = driver() if self.fixed is None and family == "cuda" else ""
        if not (why := self.book.lack(key, sizes, rows=rows, tolerance=tolerance, idle=idle, driver=under)):
            return None
        spec, thorough = grouped_spec(members, name), self.job.thorough or name in self.settled
        keys = {STACKED: key}
        return Measurement(spec, keys, sizes, GROUP_SECONDS, rows, tolerance, thorough, why=why, members=members)

    def profiles(self, kind: str, family: Family) -> dict[str, Profile]:
        """Return name of a group → its profile as one on a kind of device; of those of no use there none.

        Raises UsageError where a group that is to run as one has none.
        """
        found: dict[str, Profile] = {}
        for name, members in self.groups.items():
            sizes, why = self.batch_sizes(members[0].name, family), self.why_apart(name, kind)
            profile = self.book.get(group_key(self.preflight, members, kind))
            if profile is not None and not why:
                own = replace(profile, batches={b: p for b, p in profile.batches.items() if b in sizes})
                eager = [self.book.get(profile_key(self.preflight, member, kind, "eager")) for member in members]
                found[name] = beside(own, [each for each in eager if each is not None], len(members))
            elif name in self.settled:
                what = f"{name} cannot run as one batched network on {kind}: {why}"
                if why:
                    raise UsageError(what, "write plan.runtime: auto in the YAML, which takes the fastest that agrees")
                raise UsageError(f"there is no profile of {name} on {kind}", "measure it: hpcens profile DATASET")
        return found

    def why_apart(self, name: str, kind: str) -> str:
        """Say why a group cannot run as one on a kind of device, as far as it was measured; empty where it can."""
        members = self.groups[name]
        profile = self.book.get(group_key(self.preflight, members, kind))
        if profile is None or profile.refused:
            return profile.refused if profile is not None else ""
        spec, rows = self.job.spec, self.preflight.facts.rows
        if any(is_chosen(member, spec, self.fixed) for member in members):
            return off_float32(profile, rows, spec.plan.precision_tolerance)
        beyond = profile.difference > tolerance_in(members[0].computes_in, spec.plan.tolerance)
        return f"it differs from eager by {profile.difference:.2g}, more than plan.tolerance" if beyond else ""
