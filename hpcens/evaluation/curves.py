"""Curves from histograms: ranking, calibration and coverage of any number of rows, each with the error of its bins."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hpcens.rules import Doubles
from hpcens.vocabulary import Array

_MOST_BINS = 4096
_LEAST_BINS = 64
_ALL_BINS = 1 << 20  # of all classes together
_RANGE = 24.0  # of log-odds; beyond lie what float32 can no longer tell from 0 and 1
RELIABILITY_BINS = 15
COVERAGE_POINTS = 50


@dataclass(frozen=True, slots=True)
class Binned:
    """A number that bins tell up to an error: the exact one lies within value ± error."""

    value: float
    error: float


def odds_bins(probabilities: Doubles, bins: int) -> Array:
    """Return the bin of each probability, equally wide in log-odds, so that those near 0 and 1 are told apart."""
    with np.errstate(divide="ignore"):
        odds = np.log(probabilities) - np.log1p(-np.minimum(probabilities, 1.0))
    places = (np.clip(odds, -_RANGE, _RANGE) + _RANGE) * (bins / (2 * _RANGE))
    chosen: Array = np.minimum(places.astype(np.int64), bins - 1)
    return chosen


class Ranking:
    """Area under the ROC curve of each class against the others, from histograms of its probability."""

    def __init__(self, classes: int) -> None:
        self._bins = max(_LEAST_BINS, min(_MOST_BINS, _ALL_BINS // classes))
        self._all = np.zeros((classes, self._bins), np.int64)
        self._positive = np.zeros((classes, self._bins), np.int64)

    def add(self, probabilities: Doubles, positive: Array) -> None:
        """Add points: probabilities (points, classes), and in the same shape which classes are those of the point."""
        classes = len(self._all)
        places = odds_bins(probabilities, self._bins) + np.arange(classes) * self._bins
        self._all += np.bincount(places.reshape(-1), minlength=self._all.size).reshape(self._all.shape)
        self._positive += np.bincount(places[positive], minlength=self._all.size).reshape(self._all.shape)

    def areas(self) -> list[Binned | None]:
        """Return the area of each class; None where it has no positive points, or no others."""
        return [_area(positive, every - positive) for every, positive in zip(self._all, self._positive, strict=True)]


def _area(positive: Array, negative: Array) -> Binned | None:
    positives, negatives = int(positive.sum()), int(negative.sum())
    if not positives or not negatives:
        return None
    below = np.cumsum(negative) - negative
    shares = positive / positives
    equal = float((shares * (negative / negatives)).sum()) / 2
    return Binned(float((shares * (below / negatives)).sum()) + equal, equal)


class Reliability:
    """How often the most likely class is right, by its probability, in bins of equal width."""

    def __init__(self) -> None:
        self._points = np.zeros(RELIABILITY_BINS, np.int64)
        self._right = np.zeros(RELIABILITY_BINS, np.int64)
        self._confidence = np.zeros(RELIABILITY_BINS)

    def add(self, confidence: Doubles, right: Array) -> None:
        """Add points, (points,) each."""
        places = np.clip((confidence * RELIABILITY_BINS).astype(np.int64), 0, RELIABILITY_BINS - 1)
        self._points += np.bincount(places, minlength=RELIABILITY_BINS)
        self._right += np.bincount(places[right], minlength=RELIABILITY_BINS)
        np.add.at(self._confidence, places, confidence)

    def error(self) -> float:
        """Return the mean distance between confidence and accuracy, bins weighted by their points."""
        return float(np.abs(self._right - self._confidence).sum() / max(1, self._points.sum()))

    def points(self) -> list[dict[str, float]]:
        """Return of each bin that has any: how many points, their mean confidence, and the share that is right."""
        return [
            {"points": int(n), "confidence": float(c / n), "accuracy": float(r / n)}
            for n, c, r in zip(self._points, self._confidence, self._right, strict=True)
            if n
        ]


class Coverage:
    """Mean loss of the surest rows, as more and more of them are taken."""

    def __init__(self, bins: int = _MOST_BINS) -> None:
        self._points = np.zeros(bins, np.int64)
        self._loss = np.zeros(bins)

    def add(self, places: Array, loss: Array) -> None:
        """Add points. places: (points,) bin of each, the surest highest; loss: of each."""
        self._points += np.bincount(places, minlength=len(self._points))
        np.add.at(self._loss, places, loss.astype(np.float64))

    def area(self, *, of_errors: bool) -> Binned:
        """Return the mean, over every number of rows, of the loss of so many of the surest rows.

        Rows within a bin count as if each had the bin's mean loss.

        of_errors  each loss is 0 or 1: then the error is that of the best and the worst order within the bins, else 0
        """
        points, loss = self._surest_first()
        if not len(points):
            return Binned(float("nan"), 0.0)
        after, before = np.cumsum(points), np.cumsum(points) - points
        lost = np.cumsum(loss) - loss
        mean = loss / points
        reciprocals = _harmonic(after) - _harmonic(before)
        total = after[-1]
        area = float((mean * points + (lost - mean * before) * reciprocals).sum() / total)
        if not of_errors:
            return Binned(area, 0.0)
        wrong_end, right_end = _harmonic(before + loss), _harmonic(after - loss)
        worst = loss + (lost - before) * (wrong_end - _harmonic(before))
        worst += (lost + loss) * (_harmonic(after) - wrong_end)
        best = lost * (right_end - _harmonic(before)) + loss + (lost - after + loss) * (_harmonic(after) - right_end)
        return Binned(area, max(0.0, float(worst.sum() / total) - area, area - float(best.sum() / total)))

    def points(self) -> list[dict[str, float]]:
        """Return the curve: the share of rows that are taken, and their mean loss."""
        points, loss = self._surest_first()
        if not len(points):
            return []
        rows, lost = np.cumsum(points), np.cumsum(loss)
        wanted = np.linspace(0, rows[-1], COVERAGE_POINTS + 1)[1:]
        chosen = np.unique(np.searchsorted(rows, wanted, "left").clip(0, len(rows) - 1))
        return [{"coverage": float(rows[i] / rows[-1]), "risk": float(lost[i] / rows[i])} for i in chosen]

    def _surest_first(self) -> tuple[Doubles, Doubles]:
        filled = np.flatnonzero(self._points)[::-1]
        return self._points[filled].astype(np.float64), self._loss[filled]


def _harmonic(numbers: Doubles) -> Doubles:
    """Return Σ 1/i for i from 1 to each of the numbers."""
    few = np.concatenate([[0.0], np.cumsum(1 / np.arange(1, 64))])
    n = np.maximum(numbers, 1.0)
    many = np.log(n) + np.euler_gamma + 1 / (2 * n) - 1 / (12 * n**2) + 1 / (120 * n**4)
    return np.where(numbers < 64, few[np.minimum(numbers, 63).astype(np.int64)], many)
