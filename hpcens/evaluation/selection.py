"""A selection: members and weights chosen on one part of the rows, judged on the other, as plain data.

Its JSON, format 1: `fingerprint` (digest of the result's), `measure`, `method`; `labels`; `rows` (`chosen_on`: of these
`kept` in memory, `judged_on`, `part`: of the scores); `weights` (member → weight); `score`, `all_members`,
`best_member` (`name`, `value`, `low`, `high`); `less_all_members`, `less_best_member` (differences, drawn in pairs);
`budget` in device-hours; `frontier` (`weights`, `work`: share of the device time of all members, `hours`, `score`);
`notes`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from hpcens.evaluation.evaluation import Score
from hpcens.specs import RunSpec

FORMAT = 1


@dataclass(frozen=True, slots=True)
class Step:
    """An ensemble that none beats, on the rows that ensembles were chosen on, at the same cost or less.

    weights  member → weight, of those that are not left out
    work     its share of the device time of all members; None: not known
    hours    device-hours for as many rows as the result has; None: not known
    score    on the rows that nothing was chosen on
    """

    weights: Mapping[str, float]
    work: float | None
    hours: float | None
    score: Score


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Members and weights, and what they are worth. Scores are those of the rows that nothing was chosen on.

    fingerprint       digest of the result's fingerprint
    measure           the loss: less is better
    labels            where they come from
    chosen_on         rows in the part that was chosen on
    kept              of them in memory
    judged_on         rows in the other part
    chosen            what was chosen
    all_members       the ensemble as the result combines it
    best_member       the member that was best on the part that was chosen on
    best              its score
    less_all_members  what was chosen less all members
    less_best_member  what was chosen less the best member
    budget            device-hours; None: not limited
    frontier          quality against cost, cheapest first
    spec              the result's configuration with the members chosen and their weights
    """

    result: str
    fingerprint: str
    measure: str
    method: str
    labels: str
    chosen_on: int
    kept: int
    judged_on: int
    chosen: Step
    all_members: Step
    best_member: str
    best: Score
    less_all_members: Score
    less_best_member: Score
    budget: float | None
    frontier: Sequence[Step]
    spec: RunSpec
    notes: Sequence[str] = ()

    @property
    def weights(self) -> Mapping[str, float]:
        """The members that were chosen, with their weights."""
        return self.chosen.weights

    def to_json(self) -> str:
        """Return all of it as JSON, but for the configuration."""
        rows = {"chosen_on": self.chosen_on, "kept": self.kept, "judged_on": self.judged_on, "part": "not chosen on"}
        whole = {
            "format": FORMAT,
            "fingerprint": self.fingerprint,
            "measure": self.measure,
            "method": self.method,
            "labels": self.labels,
            "rows": rows,
            "weights": dict(self.weights),
            "score": self.chosen.score.plain,
            "all_members": self.all_members.score.plain,
            "best_member": {"name": self.best_member, **self.best.plain},
            "less_all_members": self.less_all_members.plain,
            "less_best_member": self.less_best_member.plain,
            "budget": self.budget,
            "frontier": [_plain(step) for step in self.frontier],
            "notes": list(self.notes),
        }
        return json.dumps(whole, indent=1, ensure_ascii=False, allow_nan=False)


def _plain(step: Step) -> dict[str, object]:
    return {"weights": dict(step.weights), "work": step.work, "hours": step.hours, "score": step.score.plain}


def chosen_spec(spec: RunSpec, weights: Mapping[str, float]) -> RunSpec:
    """Return a configuration with the members that have a weight: by rule mean where weights are equal.

    A calibration is of all members together: it is left out, and what is stored of it.
    """
    equal = len(set(weights.values())) == 1
    members = tuple(
        replace(member, weight=None if equal else weights[member.name])
        for member in spec.members
        if member.name in weights
    )
    rule = replace(spec.rule, name="mean" if equal else "weighted")
    datasets = tuple(name for name in spec.output.datasets if name not in ("set", "interval"))
    return replace(spec, members=members, rule=rule, calibration=None, output=replace(spec.output, datasets=datasets))
