"""Follow how fast instances were while they ran, in the earlier starts of a run.

A resume's shares follow that: batch sizes, runtimes and kinds of device stay as they are fixed, and which device
computes a row changes none of its bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from hpcens.allocation import Problem
from hpcens.runs import Report, RunDirectory
from hpcens.vocabulary import Plan

Speeds = Mapping[tuple[str, str], float]
"""(kind of device, member) → rows/s measured while it ran, in the batches and the runtime that are fixed."""

# Rows in batches of its size that an instance must have scored for its speed to count.
BATCHES = 20
# A measured speed further than this part from the one planned with is worth other shares.
_TELLS = 0.05


def experience(run: RunDirectory) -> Speeds:
    """Return the speeds of all starts that ended in order, every instance weighing as much as it scored."""
    rows: dict[tuple[str, str], float] = {}
    seconds: dict[tuple[str, str], float] = {}
    for epoch in run.epochs():
        report = Report.load(epoch.report)
        plan = Plan.kept(epoch.plan)
        if report is None or plan is None:
            continue
        kinds = {device.name: device.kind for device in plan.devices}
        for instance in report.instances:
            if instance.rows >= BATCHES * instance.batch and instance.device in kinds:
                key = kinds[instance.device], instance.member
                rows[key] = rows.get(key, 0.0) + instance.rows
                seconds[key] = seconds.get(key, 0.0) + instance.seconds
    return {key: rows[key] / seconds[key] for key in rows}


def corrected(problem: Problem, speeds: Speeds) -> Problem:
    """Return the problem with measured speeds.

    Where a kind has some, its other members are off by as much as these are on average: what slows one down, as another
    process on the host, slows down all.
    """
    kinds = dict.fromkeys(kind for kind, _ in speeds)
    of_groups = {
        (kind, group): speeds[kind, members[0]] / len(members)  # each takes an equal part of their time
        for group, members in problem.groups.items()
        for kind in kinds
        if (kind, members[0]) in speeds
    }
    speeds = {**speeds, **of_groups}
    ratios: dict[str, list[float]] = {}
    keys = list(problem.together.values())
    shared_by = {member: keys.count(key) for member, key in problem.together.items()}
    best = {key: profile.best_among(shared_by.get(key[1], 1)) for key, profile in problem.profiles.items()}
    for (kind, member, runtime), profile in problem.profiles.items():
        if (kind, member) in speeds and profile.best:
            ratios.setdefault(kind, []).append(speeds[kind, member] / best[kind, member, runtime])
    profiles = {}
    for (kind, member, runtime), profile in problem.profiles.items():
        measured = ratios.get(kind)
        if not measured or not profile.best:
            profiles[kind, member, runtime] = profile
            continue
        own = speeds.get((kind, member))
        factor = sum(measured) / len(measured) if own is None else own / best[kind, member, runtime]
        profiles[kind, member, runtime] = profile.scaled(factor)
    return replace(problem, profiles=profiles)


def tells(plan: Plan, speeds: Speeds) -> bool:
    """Return whether some instance of the plan was faster or slower than planned by more than a twentieth."""
    return any(abs(now / speed - 1) > _TELLS for _, speed, now, _ in _instances(plan, speeds))


def reached(plan: Plan, speeds: Speeds) -> float:
    """Return the rows/s that the plan makes with its shares as they are, at the measured speeds."""
    busy: dict[tuple[str, int], float] = {}
    for key, _, now, share in _instances(plan, speeds):
        busy[key] = busy.get(key, 0.0) + share / now
    slowest = (max(load for (_, phase), load in busy.items() if phase == number) for number in range(len(plan.groups)))
    shares = [
        sum(i.share for i in plan.instances if i.member == members[0]) / plan.parts.get(members[0], 1.0)
        for members in plan.groups
    ]
    return 1 / sum(max(load, 1e-12) / share for load, share in zip(slowest, shares, strict=True))


def _instances(plan: Plan, speeds: Speeds) -> list[tuple[tuple[str, int], float, float, float]]:
    """Return of every instance its device and phase, the rows/s it was planned with, those measured, and its share."""
    kinds = {device.name: device.kind for device in plan.devices}
    return [
        ((i.device, i.phase), i.speed, speeds.get((kinds[i.device], i.member), i.speed), i.share)
        for i in plan.instances
    ]
