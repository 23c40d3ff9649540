"""Judge sets and intervals: how often they hold what is true, and how large they are. Pure; streams."""

from __future__ import annotations

from collections.abc import Collection, Iterator

import numpy as np

from hpcens.evaluation.buckets import Sums
from hpcens.evaluation.labels import Outputs
from hpcens.rules import Doubles
from hpcens.vocabulary import Array

_DEVIATIONS = 3.0  # standard ones: less is taken for chance


class Sets:
    """Judge sets of classes. classes: how many there are."""

    name = "set"

    def __init__(self, classes: int) -> None:
        self._of_class = np.zeros((2, classes), np.int64)
        self._sums = Sums({"points": 1, "covered": 1, "size": 1, "empty": 1})

    def add(self, buckets: Array, sets: Array, labels: Array) -> None:
        """Add rows: (rows,), (rows, points, classes) of 0 and 1, (rows, points) of class indices, −1 where none is."""
        known = labels >= 0
        inside = sets > 0
        covered = np.take_along_axis(inside, np.where(known, labels, 0)[..., None], -1)[..., 0]
        sizes = inside.sum(-1)
        values = {"points": known, "covered": known & covered, "size": np.where(known, sizes, 0)}
        values["empty"] = known & (sizes == 0)
        for counts, which in zip(self._of_class, (known, known & covered), strict=True):
            counts += np.bincount(labels[which], minlength=len(counts))
        self._sums.add(buckets, {name: of_points.sum(1) for name, of_points in values.items()})

    def measures(self, counts: Doubles) -> dict[str, Doubles]:
        """Return the measures in each draw of buckets, see `buckets.draws`."""
        points = np.maximum(self._sums.drawn("points", counts)[:, 0], 1)
        names = {"set_coverage": "covered", "set_size": "size", "empty_sets": "empty"}
        return {measure: self._sums.drawn(name, counts)[:, 0] / points for measure, name in names.items()}

    def missed(self, coverage: float) -> Iterator[tuple[int, int, float]]:
        """Yield classes that sets hold less often than promised, by more than chance: index, points, share covered."""
        for index, (points, covered) in enumerate(self._of_class.T.tolist()):
            share = covered / max(1, points)
            if points and share + _DEVIATIONS * (coverage * (1 - coverage) / points) ** 0.5 < coverage:
                yield index, points, share


class Intervals:
    """Judge intervals of values."""

    name = "interval"

    def __init__(self) -> None:
        self._sums = Sums({"points": 1, "covered": 1, "width": 1})

    def add(self, buckets: Array, ends: Doubles, labels: Doubles) -> None:
        """Add rows: (rows,), (rows, numbers, 2) of lower and upper ends, (rows, numbers), NaN where none is known."""
        known = ~np.isnan(labels)
        ends = ends.reshape(*labels.shape, 2)
        lower, upper = ends[..., 0], ends[..., 1]
        covered = known & (lower <= labels) & (labels <= upper)
        values = {"points": known, "covered": covered, "width": np.where(known, upper - lower, 0.0)}
        self._sums.add(buckets, {name: of_points.sum(1) for name, of_points in values.items()})

    def measures(self, counts: Doubles) -> dict[str, Doubles]:
        """Return the measures in each draw of buckets, see `buckets.draws`."""
        points = np.maximum(self._sums.drawn("points", counts)[:, 0], 1)
        names = {"interval_coverage": "covered", "interval_width": "width"}
        return {measure: self._sums.drawn(name, counts)[:, 0] / points for measure, name in names.items()}


def covering_of(stored: Collection[str], outputs: Outputs) -> Sets | Intervals | None:
    """Return what judges the sets or intervals that a result holds; None where it holds none.

    stored   names of its outputs
    outputs  what its predictions are
    """
    if "set" in stored and outputs.kind == "classes":
        return Sets(outputs.classes)
    return Intervals() if "interval" in stored and outputs.kind == "values" else None
