"""Columns of the matrix: a group of equal members that run as one is one column, whose work is that of all of them.

Whether a group is one column or a column a member is part of the choice: each of the problems that there are is
planned, and the best plan is taken. None of them is planned better than its own bound, so that the largest of their
bounds is one over the choice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from itertools import chain, combinations

from hpcens.allocation.bound import beside_readers, upper_bound
from hpcens.allocation.bundles import bundle
from hpcens.allocation.problem import Problem
from hpcens.errors import UsageError
from hpcens.vocabulary import MemberNumerics, Plan
from hpcens.vocabulary.groups import STACKED, in_units

# A group has to be faster than its members one after another by more than what measuring may be wrong by: they cannot
# be divided among devices then.
_WORTH_GROUPING = 1.1
# Up to so many groups all choices of them are planned; of more, all of them and none.
_ALL_CHOICES = 2


def gain(problem: Problem, group: str) -> float:
    """Return how many times the rows/s of its members one after another a group makes at best, on any kind of device.

    Infinite where its members are not measured by themselves on a kind.
    """
    gains = [0.0]
    for kind in dict.fromkeys(device.kind for device in problem.devices):
        together = problem.profiles[kind, group, STACKED].best if (kind, group, STACKED) in problem.profiles else 0.0
        best = [_best(problem, kind, member) for member in problem.groups[group]]
        apart = 1 / sum(1 / speed for speed in best) if all(best) else 0.0
        gains.append(together / apart if apart else float("inf") if together else 0.0)
    return max(gains)


def _best(problem: Problem, kind: str, member: str) -> float:
    return max((p.best for (of, name, _), p in problem.profiles.items() if (of, name) == (kind, member)), default=0.0)


def choices_of_columns(problem: Problem) -> tuple[Problem, ...]:
    """Return the problems of which one is to be planned, that with most groups as one first."""
    if not problem.groups:
        return (problem,)
    alone = {member for _, member, _ in problem.profiles}
    settled = [group for group, members in problem.groups.items() if not alone & {*members}]
    free = [g for g in problem.groups if g not in settled and gain(problem, g) >= _WORTH_GROUPING]
    sizes = range(len(free), -1, -1) if len(free) <= _ALL_CHOICES else (len(free), 0)
    choices = list(chain.from_iterable(combinations(free, size) for size in sizes))
    seconds = problem.seconds / len(choices)
    return tuple(replace(_with_columns(problem, {*settled, *choice}), seconds=seconds) for choice in choices)


def _with_columns(problem: Problem, taken: Iterable[str]) -> Problem:
    """Return the problem in which these groups are columns, and no other group is."""
    groups = {name: members for name, members in problem.groups.items() if name in taken}
    columns = tuple(in_units(problem.members, groups))
    profiles = {key: profile for key, profile in problem.profiles.items() if key[1] in columns}
    together = {member: key for member, key in problem.together.items() if member in columns}
    return replace(problem, members=columns, groups=groups, profiles=profiles, together=together)


def best_plan(problem: Problem, planned: Callable[[Problem], Plan]) -> Plan:
    """Plan each choice of columns, and return the best plan, with a bound over all of them.

    planned  plans a problem without looking at its groups
    A choice whose bound an earlier one has reached is not planned: it cannot be better.
    Raises UsageError where none can be planned.
    """
    choices = choices_of_columns(problem)
    best: Plan | None = None
    most, refusal = 0.0, None
    for choice in choices:
        try:
            if best is not None and _bound(choice) <= best.throughput:
                continue
            plan = planned(choice)
        except UsageError as error:
            refusal = error
            continue
        most = max(most, plan.bound)
        if best is None or plan.throughput > best.throughput:
            best = _by_member(plan, problem.members, choice.groups)
    if best is None:
        assert refusal is not None, "there is a choice"
        raise refusal
    return replace(best, bound=most) if len(choices) > 1 else best


def _bound(problem: Problem) -> float:
    """Return the rows/s that no placement exceeds, those neither in which members share what can be shared."""
    bundles = bundle(problem)
    return upper_bound(beside_readers(problem if bundles is None else bundles.charged())).rows_per_second


def _by_member(plan: Plan, members: Iterable[str], groups: Mapping[str, tuple[str, ...]]) -> Plan:
    """Return a plan of columns as one of members: each of a group has its share, and takes an equal part of its time.

    members  of the ensemble, in their order
    """
    if not groups:
        return plan
    of = {member: name for name, grouped in groups.items() for member in grouped}
    order = [(member, of.get(member, member)) for member in members]

    def spread(columns: Mapping[str, float], *, times: bool = False) -> dict[str, float]:
        return {
            member: columns[column] * (len(groups[column]) if times and column in groups else 1)
            for member, column in order
            if column in columns
        }

    columns = plan.numerics.members
    numerics = {
        member: MemberNumerics(columns[c].batch, columns[c].runtime, group=c if c in groups else "")
        for member, c in order
        if c in columns
    }
    return replace(
        plan,
        numerics=replace(plan.numerics, members=numerics),
        hostings=tuple(
            replace(hosting, speeds=spread(hosting.speeds, times=True), shares=spread(hosting.shares))
            for hosting in plan.hostings
        ),
        differences=spread(plan.differences),
        phases=tuple(tuple(m for m, column in order if column in phase) for phase in plan.phases),
    )
