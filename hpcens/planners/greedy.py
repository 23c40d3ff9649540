"""Bounded greedy, as in Pochelu et al. (arXiv 2208.14049): step from worst-fit while a neighbour is better.

Theirs scores a matrix by a benchmark of the whole ensemble; ours by the performance model. A member
has one batch size in a run, so a neighbour changes it in all its instances.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from random import Random

from hpcens.matrix import AllocationMatrix
from hpcens.planners.model import Choice, Placement, choices, fits, member_speeds
from hpcens.planners.problem import Problem
from hpcens.planners.worst_fit import worst_fit

MAX_ITER = 10
MAX_NEIGHS = 100


def greedy(problem: Problem, *, max_iter: int = MAX_ITER, max_neighs: int = MAX_NEIGHS) -> Placement:
    """At most `max_iter` steps, each to the best of `max_neighs` neighbours, while that is better.

    Where there are more neighbours, some are drawn, the same ones every time. Raises UsageError as worst_fit does.
    """
    random = Random(0)
    here = worst_fit(problem)
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
    """Member speeds, slowest first: where two members tie as slowest, their minimum alone cannot
    see that one of them got faster. Nothing beats less than () , the score of what does not fit."""
    return tuple(sorted(member_speeds(problem, placement).values())) if fits(problem, placement) else ()


def _neighbours(problem: Problem, here: Placement) -> Iterator[Placement]:
    for member in problem.members:
        hosts = here.matrix.hosts(member)
        runs = Choice(here.matrix[hosts[0], member], here.runtimes[member])
        for choice in choices(problem, member):
            if choice != runs:
                yield _running(here, member, choice)
        for device in here.matrix.devices:
            if device not in hosts:
                yield replace(here, matrix=here.matrix.with_cell(device, member, runs.batch))
            elif len(hosts) > 1:
                yield replace(here, matrix=here.matrix.with_cell(device, member, 0))


def _running(here: Placement, member: str, choice: Choice) -> Placement:
    matrix = here.matrix
    cells = {cell: choice.batch if cell[1] == member else batch for cell, batch in matrix.cells.items()}
    return Placement(AllocationMatrix(matrix.devices, matrix.members, cells), {**here.runtimes, member: choice.runtime})
