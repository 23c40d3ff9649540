"""Comparison: all planners on one problem, what each reaches, and what it takes to get there."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from hpcens.allocation import PLANNERS, Problem, evaluations
from hpcens.errors import UsageError
from hpcens.specs import PlannerName
from hpcens.vocabulary import Plan


@dataclass(frozen=True, slots=True)
class Compared:
    """One planner's plan, or why there is none.

    measured  profiles its figures come from; for greedy, placements it scores, each of which would be
              a benchmark of the whole ensemble where there is no model
    seconds   that planning took
    """

    planner: PlannerName
    plan: Plan | None
    refused: str
    measured: int
    seconds: float


def compare(problem: Problem, planned: Callable[[PlannerName], Plan]) -> Sequence[Compared]:
    """Try every planner on the problem; `planned` makes the plan of the one named."""
    import scipy.optimize  # noqa: F401  else the first to need it pays for loading it

    compared = []
    for planner in PLANNERS:
        began = time.perf_counter()
        plan, refused = None, ""
        try:
            plan = planned(planner)
        except UsageError as error:
            refused = error.what
        compared.append(Compared(planner, plan, refused, _measured(problem, planner), time.perf_counter() - began))
    return compared


def _measured(problem: Problem, planner: PlannerName) -> int:
    if planner == "greedy":
        try:
            return evaluations(problem)
        except UsageError:
            return 0
    if planner == "worst-fit":
        return len(problem.profiles)
    return sum(len(profile.batches) for profile in problem.profiles.values())
