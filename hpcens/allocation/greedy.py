"""Bounded greedy, as in Pochelu et al. (arXiv 2208.14049): step from worst-fit while a neighbour is better.

Theirs scores a matrix by a benchmark of the whole ensemble, ours by the performance model. A member
has one batch size in a run, so a neighbour changes it in all its instances.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from random import Random

from hpcens.allocation.model import Choice, Placement, choices, fits, member_speeds, rehost
from hpcens.allocation.problem import Problem
from hpcens.allocation.worst_fit import place_worst_fit

MAX_ITER = 10
MAX_NEIGHS = 100


def place_greedy(problem: Problem) -> Placement:
    """Take at most MAX_ITER steps, each to the best of MAX_NEIGHS neighbours, while that is better.

    Where there are more neighbours, some are drawn, the same every time. Raises UsageError where
    worst-fit finds no placement to start from.
    """
    return _climb(problem)[0]


def evaluations(problem: Problem) -> int:
    """Count the placements that the search scores: in the paper, a benchmark of the whole ensemble each."""
    return _climb(problem)[1]


def _climb(problem: Problem) -> tuple[Placement, int]:
    random = Random(0)
    current = place_worst_fit(problem)
    score, scored = _score(problem, current), 1
    for _ in range(MAX_ITER):
        steps = list(_steps(problem, current))
        if len(steps) > MAX_NEIGHS:
            steps = random.sample(steps, MAX_NEIGHS)
        scored += len(steps)
        neighbours = (_taken(problem, current, step) for step in steps)
        scores = ((_score(problem, neighbour), neighbour) for neighbour in neighbours)
        best_score, best = max(scores, key=lambda pair: pair[0], default=(score, current))
        if best_score <= score:
            break
        score, current = best_score, best
    return current, scored


def _score(problem: Problem, placement: Placement) -> tuple[float, ...]:
    """Return member speeds, slowest first; (), which is less than any, where the placement does not fit.

    Their minimum alone would not see that one of two members that tie as slowest got faster.
    """
    return tuple(sorted(member_speeds(problem, placement).values())) if fits(problem, placement) else ()


Step = tuple[str, Choice | None, str]
"""A member, and how it is to run, or on which device it is to be added or removed."""


def _steps(problem: Problem, current: Placement) -> Iterator[Step]:
    hosts = Counter(member for members in current.hosted.values() for member in members)
    for member in problem.members:
        for choice in choices(problem, member):
            if choice != current.runs[member]:
                yield member, choice, ""
        for device in problem.devices:
            if member not in current.hosted.get(device.name, ()) or hosts[member] > 1:
                yield member, None, device.name


def _taken(problem: Problem, current: Placement, step: Step) -> Placement:
    member, choice, device = step
    if choice:
        return current.running(member, choice)
    hosted = current.hosted.get(device, ())
    return rehost(problem, current, device, {*hosted} ^ {member})
