"""What was calibrated, and what it is worth on rows that it was not fitted on, as plain data.

Its JSON, format 1, is the file that `calibration:` names. `method`, in words; what is applied: `kind` (classes, labels,
values), `temperature`, `coverage`, `thresholds`; to what it was fitted: `made_of` (of the fingerprint: members, rule,
classes), `data` (digest of the dataset), `rows` (digest of the rows used and of their labels), `n` (how many);
`digest` (SHA-256 of all of these). Beside it: `result`, `fingerprint`, `labels`; `counts` (rows `fitted` on, `ranked`
for coverage, `judged`); `measured` (`part`, `before`, `after`, `changes`: measure → `value`, `low`, `high`); `notes`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hpcens.config.calibration import FORMAT
from hpcens.evaluation.covering import Intervals, Sets
from hpcens.evaluation.evaluation import Scores
from hpcens.evaluation.labels import Outputs
from hpcens.specs import Calibration

_LISTED = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibrated:
    """A calibration, and what it is worth.

    calibration  what is to be applied
    result       path of what it was fitted to
    fingerprint  digest of the result's
    labels       where they come from
    fitted       rows that the temperature was fitted on
    ranked       rows that sets or intervals were fitted on
    judged       rows that the scores are of
    in_sample    whether those are the rows it was fitted on
    before       of the result as it is; empty of values
    after        calibrated, with sets or intervals
    changes      after less before
    reliability  `before` and `after` → bins of a reliability diagram; empty of values
    """

    calibration: Calibration
    result: str
    fingerprint: str
    labels: str
    fitted: int
    ranked: int
    judged: int
    in_sample: bool
    before: Scores = field(default_factory=dict)
    after: Scores
    changes: Scores = field(default_factory=dict)
    reliability: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    notes: Sequence[str] = ()

    @property
    def temperature(self) -> float | None:
        """By which logits are divided; None: values have none."""
        return self.calibration.temperature

    @property
    def coverage(self) -> float | None:
        """Share of new points that sets or intervals are to cover; None: there are none."""
        return self.calibration.coverage

    @property
    def method(self) -> str:
        """What was fitted, in words."""
        covering = {"set": "least ambiguous sets", "interval": "intervals of absolute errors"}
        scaled = [] if self.temperature is None else ["temperature scaling"]
        name = self.calibration.covering
        return ", ".join([*scaled, *([f"split conformal: {covering[name]}"] if name else [])])

    @property
    def part(self) -> str:
        """Which rows the scores are of, in words."""
        return "in sample" if self.in_sample else "not fitted on"

    def to_json(self) -> str:
        """Return all of it as JSON: what `calibration:` of a configuration names."""
        measured = {
            "part": self.part,
            **{
                name: {measure: score.plain for measure, score in scores.items()}
                for name, scores in (("before", self.before), ("after", self.after), ("changes", self.changes))
            },
        }
        whole = {
            "format": FORMAT,
            "method": self.method,
            "digest": self.calibration.digest,
            **self.calibration.content,
            "result": self.result,
            "fingerprint": self.fingerprint,
            "labels": self.labels,
            "counts": {"fitted": self.fitted, "ranked": self.ranked, "judged": self.judged},
            "measured": measured,
            "notes": list(self.notes),
        }
        return json.dumps(whole, indent=1, ensure_ascii=False, allow_nan=False)


def digest_of(data: Mapping[str, Any]) -> str:
    """Return the digest of a dataset, as a calibration keeps it. data: that branch of a result's fingerprint."""
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()


def missed_notes(coverage: float, covering: Sets | Intervals | None, outputs: Outputs) -> Iterator[str]:
    """Say which classes sets hold less often than promised: the promise is of all together."""
    if not isinstance(covering, Sets):
        return
    missed = sorted(covering.missed(coverage), key=lambda each: each[2])
    if missed:
        listed = ", ".join(f"{outputs.name(i)} in {100 * share:.1f} % of {n:,}" for i, n, share in missed[:_LISTED])
        more = f" and {len(missed) - _LISTED} more classes" if len(missed) > _LISTED else ""
        yield f"sets hold the true class less often than promised where it is {listed}{more}"


def calibration_notes(
    calibration: Calibration, data: Mapping[str, Any], covering: Sets | Intervals | None, outputs: Outputs
) -> Iterator[str]:
    """Say what is to be known of a calibrated result's figures.

    data      that branch of its fingerprint
    covering  what judged its sets or intervals
    outputs   what its predictions are
    """
    if calibration.temperature is not None:
        yield f"the ensemble is calibrated at temperature {calibration.temperature:.6g}, its members are not"
    if calibration.coverage is not None:
        what = "intervals were" if calibration.covering == "interval" else "sets were"
        yield f"{what} promised to hold {100 * calibration.coverage:.6g} %, ranked on rows like those of its file"
        yield from missed_notes(calibration.coverage, covering, outputs)
    if digest_of(data) == calibration.data:
        yield f"in sample: {calibration.n:,} of these rows are those that the calibration was fitted on"
