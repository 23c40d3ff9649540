"""Learn from a run what part of the profiled rows/s its devices reached.

Plans count on that part: members that share a device, and devices that share a host, are slower than each measured
alone.
"""

from __future__ import annotations

from hpcens.checks.preflight import Preflight
from hpcens.planning.experience import BATCHES, Speeds
from hpcens.planning.job_planner import JobPlanner
from hpcens.profiling import ProfileBook
from hpcens.runs import Report
from hpcens.specs import Job, prepared_together
from hpcens.vocabulary import Plan


def learn(job: Job, preflight: Preflight, plan: Plan, report: Report) -> None:
    """Note in the book what part of the profiled rows/s a start reached, by its report.

    Raises OSError where the book cannot be written, UsageError where a profile is gone.
    """
    needs = JobPlanner(job, preflight, ProfileBook.default()).needs
    families = {device.kind: device.family for device in plan.devices}
    numerics = plan.numerics.members
    together = prepared_together(needs.members)
    keys = [(key, numerics[member].batch) for member, key in together.items()]
    shared_by = {m: keys.count((key, numerics[m].batch)) for m, key in together.items()}
    profiled = {
        (kind, member): profile.batches[numerics[member].batch].among(shared_by.get(member, 1))
        for kind, family in families.items()
        for (member, runtime), profile in needs.profiles(kind, family).items()
        if runtime == numerics[member].runtime and numerics[member].batch in profile.batches
    }
    grouping = needs.grouping
    for kind, family in families.items():
        for group, profile in grouping.profiles(kind, family).items():
            members = [member.name for member in grouping.groups[group]]
            how = numerics[members[0]]
            if how.group == group and how.batch in profile.batches:
                speed = len(members) * profile.batches[how.batch].rows_per_second
                profiled |= {(kind, member): speed for member in members}
    for kind, part in interference(plan, report, profiled).items():
        needs.book.put_reached(kind, part)


def interference(plan: Plan, report: Report, profiled: Speeds) -> dict[str, float]:
    """Return kind of device → the part of the profiled rows/s that a run reached.

    Every instance weighs as much as it took.

    profiled  (kind, member) → rows/s of its profile
    """
    kinds = {device.name: device.kind for device in plan.devices}
    wanted: dict[str, float] = {}
    took: dict[str, float] = {}
    for instance in report.instances:
        key = kinds[instance.device], instance.member
        if instance.rows >= BATCHES * instance.batch and key in profiled:
            wanted[key[0]] = wanted.get(key[0], 0.0) + instance.rows / profiled[key]
            took[key[0]] = took.get(key[0], 0.0) + instance.seconds
    return {kind: wanted[kind] / took[kind] for kind in wanted}
