"""Choose members and weights by a loss on rows in memory. Pure; the same rows give the same choice.

Greedy: Caruana et al. 2004, Ensemble Selection from Libraries of Models. From nothing, the member with which the mean
of all taken so far has the least loss is taken, again and again, with replacement; how often it was taken is its
weight, and of all rounds the best counts. Weights: the convex programme, with all members; then without the one whose
weight for its work is least, again and again. Either gives candidates of many sizes, of which the frontier is kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hpcens.evaluation.losses import Loss
from hpcens.rules import Doubles
from hpcens.vocabulary import Array

ROUNDS = 50
_NEGLIGIBLE = 1e-3  # weights below it are 0
_DIGITS = 6


@dataclass(frozen=True, slots=True)
class Candidate:
    """An ensemble.

    weights  of all members, in member order; 0: left out
    loss     on the rows that it was chosen on
    cost     of the members that are not left out
    """

    weights: tuple[float, ...]
    loss: float
    cost: float


class Sample:
    """Rows to choose on.

    loss   of an ensemble
    terms  of the members, (members, rows, points, depth)
    known  points that count, (rows, points)
    costs  of each member
    """

    def __init__(self, loss: Loss, terms: Doubles, known: Array, costs: Sequence[float]) -> None:
        self._loss, self._terms, self._known, self._costs = loss, terms, known, tuple(costs)
        self._points = max(1, int(known.sum()))

    def singles(self) -> list[Candidate]:
        """Return each member alone."""
        return [self._candidate([float(i == j) for j in range(len(self._costs))]) for i in range(len(self._costs))]

    def greedy(self, budget: float) -> list[Candidate]:
        """Return the ensemble of each round. budget: what its members may cost together."""
        taken = np.zeros(len(self._costs))
        total = np.zeros(self._terms.shape[1:])
        found: list[Candidate] = []
        for count in range(1, ROUNDS + 1):
            tried = {
                member: self._mean((total + self._terms[member]) / count)
                for member in range(len(taken))
                if self._cost(taken + (np.arange(len(taken)) == member)) <= budget
            }
            if not tried:
                break
            best = min(tried, key=lambda member: tried[member])
            taken[best] += 1
            total = total + self._terms[best]
            found.append(Candidate(tuple(taken.tolist()), tried[best], self._cost(taken)))
        return found

    def weighted(self) -> list[Candidate]:
        """Return the best weights of all members, of all but one, and so on down to one."""
        left = list(range(len(self._costs)))
        found: list[Candidate] = []
        while left:
            fitted = self._fit(left)
            weights = np.zeros(len(self._costs))
            weights[left] = np.where(fitted < _NEGLIGIBLE, 0.0, fitted)
            found.append(self._candidate((weights / weights.sum()).round(_DIGITS).tolist()))
            left.remove(min(left, key=lambda member: (weights[member] / self._costs[member], -self._costs[member])))
        return found

    def _candidate(self, weights: Sequence[float]) -> Candidate:
        return Candidate(tuple(weights), self._mean(combined(weights, self._terms)), self._cost(np.asarray(weights)))

    def _fit(self, left: list[int]) -> Doubles:
        from scipy.optimize import minimize

        if len(left) == 1:
            return np.ones(1)

        def value(weights: Doubles) -> tuple[float, Doubles]:
            mixed = combined(weights, [self._terms[i] for i in left])
            slopes = self._loss.slopes(mixed, self._known)
            gradient = np.array([float((slopes * self._terms[i]).sum()) for i in left]) / self._points
            return self._mean(mixed), gradient

        one = {"type": "eq", "fun": lambda w: w.sum() - 1, "jac": np.ones_like}
        start, bounds = np.full(len(left), 1 / len(left)), [(0.0, 1.0)] * len(left)
        options = {"ftol": 1e-12, "maxiter": 500}
        found = minimize(value, start, jac=True, method="SLSQP", bounds=bounds, constraints=[one], options=options)
        fitted = np.maximum(found.x, 0.0)
        return np.asarray(fitted / fitted.sum())

    def _cost(self, weights: Doubles) -> float:
        return sum(cost for cost, weight in zip(self._costs, weights, strict=True) if weight)

    def _mean(self, mixed: Doubles) -> float:
        return float(self._loss.losses(mixed, self._known).sum()) / self._points


def combined(weights: Sequence[float] | Doubles, terms: Sequence[Doubles] | Doubles) -> Doubles:
    """Return Σ w·terms / Σ w, in member order, number by number.

    weights  (members,), not negative, not all 0
    terms    of each member an array, all of one shape, which is that of what is returned
    """
    total = np.zeros(terms[0].shape)
    for weight, of_member in zip(weights, terms, strict=True):
        if weight:
            total += weight * of_member
    return np.asarray(total / sum(weights))


def frontier(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Return those that none beats at the same cost or less, cheapest first."""
    kept: list[Candidate] = []
    for candidate in sorted(candidates, key=lambda each: (each.cost, each.loss)):
        if not kept or candidate.loss < kept[-1].loss:
            kept = [each for each in kept if each.cost < candidate.cost]
            kept.append(candidate)
    return kept
