"""An evaluation: every figure of a result held against labels, as plain data.

Its JSON, format 1: `fingerprint` (digest of the result's), `task`; `labels` (`source`, `digest`, `rows`: of the dataset
or of the result); `rows` (`total`, `used`, `masked`, `unscored`, `unlabelled`, `points`, `part`); `members` and
`ensemble` (measure → `value`, `low`, `high`, and where it is taken from bins `error`); `best_member`, `leave_one_out`
(see `Evaluation`); `curves`; `of_class` (labels of each class); `notes`; of a cascade `stages` (see `StageScore`).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from hpcens.rules import Doubles

FORMAT = 1
_TAIL = 2.5  # percent at either end of an interval

HIGHER = ("accuracy", "exact_match", "f1_score", "iou", "dice", "r2_score", "roc_auc")
"""Measures of which more is better, and `top_K_accuracy`; of the others less is."""
NEITHER = ("spread_to_error", "set_coverage", "interval_coverage", "empty_sets")
"""Measures that have a right value: 1, and what was promised."""


def more_is_better(measure: str) -> bool:
    """Tell whether a larger value of a measure is the better one."""
    return measure in HIGHER or measure.endswith("_accuracy")


@dataclass(frozen=True, slots=True)
class Score:
    """A measure: its value, and the interval that 95 % of the bootstrap's draws lie in.

    error  by how much the exact value may differ, where it is taken from bins; else 0
    """

    value: float
    low: float | None = None
    high: float | None = None
    error: float = 0.0

    @staticmethod
    def of_draws(values: Doubles) -> Score:
        """Return the score of draws of which the first is that of all rows."""
        drawn = values[1:][np.isfinite(values[1:])]
        if not np.isfinite(values[0]) or not len(drawn):
            return Score(float(values[0]))
        low, high = np.percentile(drawn, [_TAIL, 100 - _TAIL])
        return Score(float(values[0]), float(low), float(high))

    @property
    def plain(self) -> dict[str, float | None]:
        """As JSON: null for what is not finite."""
        numbers = asdict(self) if self.error else {"value": self.value, "low": self.low, "high": self.high}
        return {name: number if number is None or math.isfinite(number) else None for name, number in numbers.items()}


Scores = Mapping[str, Score]


@dataclass(frozen=True, slots=True)
class Labelling:
    """Which labels predictions were held against.

    source  file and dataset, or column
    digest  SHA-256 of them, as they were used
    follow  whether they are those of the whole dataset, of which selection and limit were taken
    """

    source: str
    digest: str
    follow: bool


@dataclass(frozen=True, slots=True)
class RowCounts:
    """Which rows count.

    masked      could not be scored
    unscored    of which a member or the ensemble gave no finite number
    unlabelled  without any label that counts
    points      labels that count, of all rows that are used
    """

    total: int
    used: int
    masked: int
    unscored: int
    unlabelled: int
    points: int


@dataclass(frozen=True, slots=True)
class Gain:
    """The ensemble beside its best member in one measure.

    difference  of the ensemble, less that of the member, drawn in pairs
    """

    member: str
    difference: Score

    def beats(self, measure: str) -> bool | None:
        """Tell whether the whole interval says that the ensemble is better; None: it says neither."""
        low, high = self.difference.low, self.difference.high
        if low is None or high is None or low <= 0 <= high:
            return None
        return (low > 0) is more_is_better(measure)


@dataclass(frozen=True, slots=True)
class Omission:
    """What leaving one member out costs.

    work         its share of the device time, by the plan; None: not known
    differences  measure → that of the ensemble without it, less that of the whole
    """

    work: float | None
    differences: Scores


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitScore:
    """What another limit of a stage would give, all others kept.

    word, side, limit  what it would accept rows by: entropy, below, 0.2
    left               part of all rows that would come to the next stage
    quality            of the whole, as that of its stage
    work               device time, as a part of that of all members on all rows; None: not known
    """

    word: str
    side: str
    limit: float
    left: float
    quality: float
    work: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StageScore:
    """A stage of a cascade. Quality: accuracy, of values the root of the mean squared error.

    came      rows with labels that came to it
    accepted  of them, that came no further
    quality   of those; None: there are none
    ended     quality of the whole, had this stage been the last
    work      then device time, as a part of that of all members on all rows; None: not known
    limits    what looser limits would give
    """

    members: tuple[str, ...]
    came: int
    accepted: int
    quality: float | None
    ended: float
    work: float | None
    limits: Sequence[LimitScore] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """What a result is worth against labels.

    fingerprint    digest of the result's fingerprint
    result         its path
    members        member → measure → score; empty where the ensemble alone is judged
    gains          measure → the ensemble beside the member that is best in it
    leave_one_out  member → what leaving it out costs
    curves         what is drawn of the ensemble
    classes        names of the classes, or their numbers
    of_class       labels of each class
    notes          what is to be known beside the figures
    stages         of a cascade; () where there is none, or its members are not stored
    """

    result: str
    fingerprint: str
    task: str
    labels: Labelling
    rows: RowCounts
    ensemble: Scores
    members: Mapping[str, Scores] = field(default_factory=dict)
    gains: Mapping[str, Gain] = field(default_factory=dict)
    leave_one_out: Mapping[str, Omission] = field(default_factory=dict)
    curves: Mapping[str, Any] = field(default_factory=dict)
    classes: Sequence[str] = ()
    of_class: Sequence[int] = ()
    notes: Sequence[str] = ()
    stages: Sequence[StageScore] = ()

    @property
    def measures(self) -> tuple[str, ...]:
        """Names of the measures, the ensemble's first."""
        return tuple(self.ensemble)

    def to_json(self) -> str:
        """Return all of it as JSON."""
        about = {"source": self.labels.source, "digest": self.labels.digest}
        best = {
            measure: {"member": gain.member, "difference": gain.difference.plain, "beats": gain.beats(measure)}
            for measure, gain in self.gains.items()
        }
        left_out = {
            name: {"work": omission.work, "differences": _plain(omission.differences)}
            for name, omission in self.leave_one_out.items()
        }
        whole = {
            "format": FORMAT,
            "fingerprint": self.fingerprint,
            "task": self.task,
            "labels": about | {"rows": "dataset" if self.labels.follow else "result"},
            "rows": asdict(self.rows) | {"part": "all"},
            "members": {name: _plain(scores) for name, scores in self.members.items()},
            "ensemble": _plain(self.ensemble),
            "best_member": best,
            "leave_one_out": left_out,
            "curves": self.curves,
            "of_class": dict(zip(self.classes, self.of_class, strict=True)) if self.of_class else {},
            "notes": list(self.notes),
        }
        if self.stages:
            whole["stages"] = [asdict(stage) for stage in self.stages]
        return json.dumps(whole, indent=1, ensure_ascii=False, allow_nan=False)


def _plain(scores: Scores) -> dict[str, dict[str, float | None]]:
    return {measure: score.plain for measure, score in scores.items()}
