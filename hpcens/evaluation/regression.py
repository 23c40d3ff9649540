"""Judge values, and how well their spread tells their error. Pure; streams."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from hpcens.evaluation.buckets import Sums
from hpcens.evaluation.curves import Binned, Coverage
from hpcens.rules import Doubles
from hpcens.vocabulary import Array

_MOST_OUTPUTS = 256  # numbers a row of which each has its own R²
_OCTAVE = 16  # bins of spread that a factor of 2 has
_OCTAVES = 128
_PARTS = 10


class Values:
    """Judge one source of values.

    width   numbers a row
    shift   taken off the labels, so that sums of squares keep their digits
    spread  whether members are given, whose spread is judged too
    """

    def __init__(self, width: int, *, shift: float, spread: bool) -> None:
        self._each = width <= _MOST_OUTPUTS
        outputs = width if self._each else 1
        self._shift, self._spread = shift, spread
        widths = dict.fromkeys(("points", "label", "label_squared", "squared"), outputs) | {"absolute": 1}
        if spread:
            widths |= {"crps": 1, "likelihood": 1, "spread_points": 1, "variance": 1}
        self._sums = Sums(widths)
        self._coverage = Coverage(_OCTAVE * _OCTAVES)
        self._by_spread = np.zeros((3, _OCTAVE * _OCTAVES))

    def add(self, buckets: Array, values: Doubles, labels: Doubles, members: Sequence[Doubles] = ()) -> None:
        """Add rows: (rows,), (rows, numbers) of values and of labels, where NaN does not count; the same of members."""
        known = ~np.isnan(labels)
        errors = np.where(known, values - labels, 0.0)
        shifted = np.where(known, labels - self._shift, 0.0)
        each = {"points": known.astype(np.float64), "label": shifted}
        each |= {"label_squared": shifted**2, "squared": errors**2}
        sums: dict[str, Array] = {name: of_rows if self._each else of_rows.sum(1) for name, of_rows in each.items()}
        sums["absolute"] = np.abs(errors).sum(1)
        if self._spread:
            sums |= self._add_spread(known, errors, labels, members)
        self._sums.add(buckets, sums)

    def _add_spread(
        self, known: Array, errors: Doubles, labels: Doubles, members: Sequence[Doubles]
    ) -> dict[str, Array]:
        ordered = np.sort(np.stack(members), axis=0)
        count = len(ordered)
        mean = ordered.sum(0) / count
        variance = ((ordered - mean) ** 2).sum(0) / count
        places = 2 * np.arange(1, count + 1) - count - 1
        between = (places[:, None, None] * ordered).sum(0) / count**2
        crps = np.abs(ordered - labels).sum(0) / count - between
        tells = known & (variance > 0)
        safe = np.where(tells, variance, 1.0)
        likelihood = 0.5 * (np.log(2 * np.pi * safe) + errors**2 / safe)
        with np.errstate(divide="ignore"):
            octaves = np.log2(variance[known]) / 2  # of the spread itself
        bins = len(self._by_spread[0])
        widest_last = np.clip((octaves + _OCTAVES / 2) * _OCTAVE, 0, bins - 1).astype(np.int64)
        squared = errors[known] ** 2
        self._coverage.add(bins - 1 - widest_last, squared)
        for total, of_points in zip(self._by_spread, (np.ones(len(squared)), squared, variance[known]), strict=True):
            np.add.at(total, widest_last, of_points)
        return {
            "crps": np.where(known, crps, 0.0).sum(1),
            "likelihood": np.where(tells, likelihood, 0.0).sum(1),
            "spread_points": tells.sum(1),
            "variance": np.where(known, variance, 0.0).sum(1),
        }

    def measures(self, counts: Doubles) -> dict[str, Doubles]:
        """Return the measures in each draw of buckets, see `buckets.draws`."""
        points, label, label_squared, squared = (
            self._sums.drawn(name, counts) for name in ("points", "label", "label_squared", "squared")
        )
        each = np.maximum(points, 1)
        total = np.maximum(points.sum(1), 1)
        scatter = label_squared - label**2 / each
        with np.errstate(divide="ignore", invalid="ignore"):
            explained = np.where(scatter > 0, 1 - squared / scatter, np.nan)
        found = {
            "mean_absolute_error": self._sums.drawn("absolute", counts)[:, 0] / total,
            "root_mean_squared_error": np.sqrt(squared.sum(1) / total),
            "r2_score": explained.mean(1),
        }
        if self._spread:
            crps, likelihood, tells, variance = (
                self._sums.drawn(name, counts)[:, 0] for name in ("crps", "likelihood", "spread_points", "variance")
            )
            found["crps"] = crps / total
            found["negative_log_likelihood"] = np.where(tells > 0, likelihood / np.maximum(tells, 1), np.nan)
            with np.errstate(divide="ignore", invalid="ignore"):
                found["spread_to_error"] = np.sqrt(variance / squared.sum(1))
        return found

    def fixed(self) -> dict[str, Binned]:
        """Return the measures that are taken from bins, without intervals."""
        return {"aurc": self._coverage.area(of_errors=False)} if self._spread else {}

    @property
    def without_spread(self) -> int:
        """How many numbers have members that agree to the last bit, which no likelihood takes."""
        if not self._spread:
            return 0
        points, tells = (int(self._sums.of_buckets(name).sum()) for name in ("points", "spread_points"))
        return points - tells

    def curves(self) -> dict[str, Any]:
        """Return what is drawn: coverage, and error against spread in parts of about equally many numbers."""
        if not self._spread:
            return {}
        points, squared, variance = self._by_spread
        ends = np.searchsorted(np.cumsum(points), np.linspace(0, points.sum(), _PARTS + 1)[1:], "left")
        parts: list[dict[str, float]] = []
        start = 0
        for end in np.unique(np.minimum(ends, len(points) - 1)) + 1:
            if n := points[start:end].sum():
                error, spread = np.sqrt(squared[start:end].sum() / n), np.sqrt(variance[start:end].sum() / n)
                parts.append({"points": int(n), "spread": float(spread), "error": float(error)})
            start = end
        return {"coverage": self._coverage.points(), "spread": parts}

    @property
    def of_class(self) -> list[int]:
        """Values have no classes."""
        return []
