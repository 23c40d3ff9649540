"""Judge probabilities of classes: those that exclude one another, and labels that do not. Pure; streams."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from hpcens.evaluation.buckets import Sums
from hpcens.evaluation.curves import Binned, Coverage, Ranking, Reliability, odds_bins
from hpcens.rules import Doubles
from hpcens.vocabulary import Array

_MOST_CONFUSION = 1024  # classes of which each pair is counted
_MOST_OVERLAPS = 256  # classes of which overlaps have intervals
_BINS = 4096


class Classes:
    """Judge one source of probabilities of classes that exclude one another.

    classes  how many there are
    dense    whether a row has many points, as images have
    top      K of top-K; 0: none
    least    probabilities count as no less than this, and no more than 1 less it, in logarithms
    whole    whether what is taken from bins is judged too; False: only what sums tell
    """

    def __init__(self, classes: int, *, dense: bool, top: int, least: float, whole: bool = True) -> None:
        self._classes, self._top, self._least, self._whole = classes, top, least, whole
        self._overlaps = dense and classes <= _MOST_OVERLAPS
        widths = {"points": 1, "right": 1, "in_top": 1, "log_loss": 1, "brier": 1}
        if self._overlaps:
            widths |= dict.fromkeys(("true", "guessed", "both"), classes)
        self._sums = Sums(widths)
        self._ranking, self._reliability, self._coverage = Ranking(classes), Reliability(), Coverage()
        self._confusion = np.zeros((classes, classes) if classes <= _MOST_CONFUSION else (0, 0), np.int64)
        self._true = np.zeros(classes, np.int64)

    def add(self, buckets: Array, probabilities: Doubles, labels: Array) -> None:
        """Add rows.

        buckets        (rows,)
        probabilities  (rows, points, classes)
        labels         (rows, points) class indices; −1: the point has none and does not count
        """
        known = labels >= 0
        true = np.where(known, labels, 0)
        of_true = np.take_along_axis(probabilities, true[..., None], -1)[..., 0]
        guess = probabilities.argmax(-1)
        right = known & (guess == labels)
        kept = np.clip(of_true, self._least, 1 - self._least)
        squares = (probabilities**2).sum(-1) - 2 * of_true + 1
        values: dict[str, Array] = {
            "points": known.sum(1),
            "right": right.sum(1),
            "log_loss": np.where(known, -np.log(kept), 0.0).sum(1),
            "brier": np.where(known, squares, 0.0).sum(1) / (2 if self._classes == 2 else 1),
        }
        if self._top:
            before = (probabilities == of_true[..., None]) & (np.arange(self._classes) < true[..., None])
            rank = (probabilities > of_true[..., None]).sum(-1) + before.sum(-1)
            values["in_top"] = (known & (rank < self._top)).sum(1)
        if self._overlaps:
            values |= {"true": self._counted(true, known), "guessed": self._counted(guess, known)}
            values["both"] = self._counted(true, right)
        self._sums.add(buckets, values)
        if self._whole:
            self._add_points(probabilities[known], labels[known], guess[known])

    def _add_points(self, probabilities: Doubles, labels: Array, guess: Array) -> None:
        right = guess == labels
        confidence = probabilities.max(-1, initial=0.0)
        self._ranking.add(probabilities, labels[:, None] == np.arange(self._classes))
        self._reliability.add(confidence, right)
        self._coverage.add(odds_bins(confidence, _BINS), ~right)
        self._true += np.bincount(labels, minlength=self._classes)
        if len(self._confusion):
            pairs = np.bincount(labels * self._classes + guess, minlength=self._confusion.size)
            self._confusion += pairs.reshape(self._confusion.shape)

    def _counted(self, classes: Array, which: Array) -> Array:
        """Count in each row the points of each class, (rows, classes); which: the points that count."""
        rows = np.broadcast_to(np.arange(len(classes))[:, None], classes.shape)
        places = (rows * self._classes + classes)[which]
        return np.bincount(places, minlength=len(classes) * self._classes).reshape(len(classes), -1)

    def measures(self, counts: Doubles) -> dict[str, Doubles]:
        """Return the measures in each draw of buckets, see `buckets.draws`."""
        points = np.maximum(self._sums.drawn("points", counts)[:, 0], 1)
        names = {"accuracy": "right", "log_loss": "log_loss", "brier_score": "brier"}
        if self._top:
            names[f"top_{self._top}_accuracy"] = "in_top"
        found = {measure: self._sums.drawn(name, counts)[:, 0] / points for measure, name in names.items()}
        if self._overlaps:
            true, guessed, both = (self._sums.drawn(name, counts) for name in ("true", "guessed", "both"))
            with np.errstate(invalid="ignore"):
                found["iou"] = _mean_of_known(both / (true + guessed - both))
                found["dice"] = _mean_of_known(2 * both / (true + guessed))
        return found

    def fixed(self) -> dict[str, Binned]:
        """Return the measures that are taken from bins, without intervals."""
        areas = self._ranking.areas()
        return _fixed(areas[1:2] if self._classes == 2 else areas, self._reliability, self._coverage)

    def curves(self) -> dict[str, Any]:
        """Return what is drawn: reliability, coverage, confusion (rows: true classes)."""
        return {
            "reliability": self._reliability.points(),
            "coverage": self._coverage.points(),
            "confusion": self._confusion.tolist(),
        }

    @property
    def of_class(self) -> list[int]:
        """How many points each class has."""
        return [int(count) for count in self._true]


def _mean_of_known(values: Doubles) -> Doubles:
    """Return the mean over the last axis of what is no NaN."""
    known = ~np.isnan(values)
    mean: Doubles = np.where(known, values, 0).sum(-1) / np.maximum(known.sum(-1), 1)
    return mean


def _fixed(areas: Sequence[Binned | None], reliability: Reliability, coverage: Coverage) -> dict[str, Binned]:
    """Return what is taken from bins; areas: below the curve of each class, None where it has none."""
    found = {"calibration_error": Binned(reliability.error(), 0.0), "aurc": coverage.area(of_errors=True)}
    known = [area for area in areas if area is not None]
    if known:
        value, error = np.mean([area.value for area in known]), np.mean([area.error for area in known])
        found["roc_auc"] = Binned(float(value), float(error))
    return found


class Labels:
    """Judge one source of probabilities of labels that do not exclude one another.

    labels  how many there are
    least   and whole: see `Classes`
    """

    def __init__(self, labels: int, *, least: float, whole: bool = True) -> None:
        self._labels, self._least, self._whole = labels, least, whole
        self._sums = Sums(
            {"points": 1, "right": 1, "exact": 1, "rows": 1, "log_loss": 1, "brier": 1}
            | dict.fromkeys(("true", "guessed", "both"), labels if labels <= _MOST_OVERLAPS else 1)
        )
        self._ranking, self._reliability, self._coverage = Ranking(labels), Reliability(), Coverage()
        self._true = np.zeros(labels, np.int64)

    def add(self, buckets: Array, probabilities: Doubles, labels: Array) -> None:
        """Add rows: (rows,), (rows, points, labels), (rows, points, labels) of 0, 1, and −1 where none is known."""
        known, true = labels >= 0, labels == 1
        guess = probabilities > 0.5
        right = known & (guess == true)
        kept = np.clip(np.where(true, probabilities, 1 - probabilities), self._least, 1 - self._least)
        squares = (probabilities - true) ** 2
        narrow = self._labels <= _MOST_OVERLAPS
        counted = {"true": known & true, "guessed": known & guess, "both": right & true}
        values: dict[str, Array] = {name: which.sum(1) for name, which in counted.items()}
        self._sums.add(
            buckets,
            {
                "points": known.sum((1, 2)),
                "right": right.sum((1, 2)),
                "exact": (right | ~known).all(-1).sum(1),
                "rows": np.full(len(labels), labels.shape[1]),
                "log_loss": _row_sums(np.where(known, -np.log(kept), 0.0)),
                "brier": _row_sums(np.where(known, squares, 0.0)),
                **{name: of_rows if narrow else of_rows.sum(1) for name, of_rows in values.items()},
            },
        )
        if not self._whole:
            return
        complete = known.all(-1)
        self._ranking.add(probabilities[complete], true[complete])
        confidence = np.maximum(probabilities, 1 - probabilities)
        self._reliability.add(confidence[known], right[known])
        self._coverage.add(odds_bins(confidence[known], _BINS), ~right[known])
        self._true += (known & true).sum((0, 1))

    def measures(self, counts: Doubles) -> dict[str, Doubles]:
        """Return the measures in each draw of buckets."""
        points = np.maximum(self._sums.drawn("points", counts)[:, 0], 1)
        names = {"accuracy": "right", "log_loss": "log_loss", "brier_score": "brier"}
        found = {measure: self._sums.drawn(name, counts)[:, 0] / points for measure, name in names.items()}
        rows = np.maximum(self._sums.drawn("rows", counts)[:, 0], 1)
        found["exact_match"] = self._sums.drawn("exact", counts)[:, 0] / rows
        true, guessed, both = (self._sums.drawn(name, counts) for name in ("true", "guessed", "both"))
        with np.errstate(invalid="ignore"):
            found["f1_score"] = np.nan_to_num(2 * both / (true + guessed)).mean(-1)
        return found

    def fixed(self) -> dict[str, Binned]:
        """Return the measures that are taken from bins, without intervals."""
        return _fixed(self._ranking.areas(), self._reliability, self._coverage)

    def curves(self) -> dict[str, Any]:
        """Return what is drawn: reliability and coverage."""
        return {"reliability": self._reliability.points(), "coverage": self._coverage.points()}

    @property
    def of_class(self) -> list[int]:
        """How often each label is 1."""
        return [int(count) for count in self._true]


def _row_sums(values: Doubles) -> Doubles:
    """Return the sum of each row's values, (rows, points, labels)."""
    sums: Doubles = values.reshape(len(values), -1).sum(1)
    return sums


def probabilities_of(values: Doubles, *, labels: bool, logits: bool, whole: bool) -> Doubles:
    """Return probabilities of logits, and those that need not add up to 1 divided by their sum.

    values  (rows, …, classes)
    labels  whether classes do not exclude one another
    logits  whether the values are logits
    whole   whether a row's probabilities add up to 1
    """
    if labels:
        return 1 / (1 + np.exp(-values)) if logits else values
    if logits:
        shifted = np.exp(values - values.max(-1, keepdims=True))
        return np.asarray(shifted / shifted.sum(-1, keepdims=True))
    if whole:
        return values
    total = values.sum(-1, keepdims=True)
    shares = np.full_like(values, 1 / values.shape[-1])
    return np.asarray(np.divide(values, total, out=shares, where=total > 0))
