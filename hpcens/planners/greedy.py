"""Bounded greedy, as in Pochelu et al. (arXiv 2208.14049): step from worst-fit while a neighbour is better.

Theirs scores a matrix by a benchmark of the whole ensemble, ours by the performance model. A member
has one batch size in a run, so a neighbour changes it in all its instances.
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

from hpcens.planners.model import Placement, choices, fits, member_speeds, rehost
from hpcens.planners.problem import Problem
from hpcens.planners.worst_fit import place_worst_fit

MAX_ITER = 10
MAX_NEIGHS = 100


def place_greedy(problem: Problem, *, max_iter: int = MAX_ITER, max_neighs: int = MAX_NEIGHS) -> Placement:
    """At most `max_iter` steps, each to the best of `max_neighs` neighbours, while that is better.

    Where there are more neighbours, some are drawn, the same every time. Raises UsageError where
    worst-fit finds no placement to start from.
    """
    random = Random(0)
    here = place_worst_fit(problem)
    score = _score(problem, here)
    for _ in range(max_iter):
        neighbours = list(_neighbours(problem, here))
        if len(neighbours) > max_neighs:
            neighbours = random.sample(neighbours, max_neighs)
        scored = [(_score(problem, neighbour), neighbour) for neighbour in neighbours]
        best_score, best = max(scored, key=lambda pair: pair[0], default=(score, here))
        if best_score <= score:
            break
        score, here = best_score, best
    return here


def _score(problem: Problem, placement: Placement) -> tuple[float, ...]:
    """Member speeds, slowest first; () , which is less than any, where the placement does not fit.

    Their minimum alone would not see that one of two members that tie as slowest got faster.
    """
    return tuple(sorted(member_speeds(problem, placement).values())) if fits(problem, placement) else ()


def _neighbours(problem: Problem, here: Placement) -> Iterator[Placement]:
    for member in problem.members:
        for choice in choices(problem, member):
            if choice != here.runs[member]:
                yield here.running(member, choice)
        hosts = sum(member in members for members in here.hosted.values())
        for device in problem.devices:
            hosted = here.hosted.get(device.name, ())
            if member not in hosted:
                yield rehost(problem, here, device.name, (*hosted, member))
            elif hosts > 1:
                yield rehost(problem, here, device.name, (m for m in hosted if m != member))
