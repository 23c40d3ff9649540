"""Judge the stages of a cascade: how good what each accepts is, what it cost, and what other limits would give.

A second pass over the result. Looser limits than those it was scored under can be judged, as the rows that came further
have the outputs of earlier stages too; under stricter ones rows would go on of which later members gave nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import log

import numpy as np

from hpcens.combining import Combiner, rule_digests
from hpcens.config import spec_from_json
from hpcens.evaluation.evaluation import LimitScore, StageScore
from hpcens.evaluation.labels import as_targets, outputs_in
from hpcens.evaluation.omissions import seconds_of
from hpcens.result import PASS_ENTROPY, PRESENT, Finished
from hpcens.rules import Doubles, Floats
from hpcens.specs import ACCEPTED, RunSpec, Space
from hpcens.vocabulary import Array

_BINS = 4096
_POINTS = 10  # of a curve
_LEAST, _MOST = -12.0, 12.0  # decimal logarithms between which variances are told apart


Read = Callable[[int, int], Array]


def judge_stages(result: Finished, labels: Read, source: str, ignore: float | None) -> tuple[StageScore, ...]:
    """Judge each stage of the cascade under which a result was scored.

    labels  takes (start, stop), returns labels of these rows
    source  where they come from
    ignore  value that stands for no label; None: every label counts
    () where it was scored under none, or does not hold its members' outputs.
    """
    spec = spec_from_json(result.document("config"))
    stored = {output.name for output in result.outputs}
    full = all(f"members/{name}" in stored for name in spec.member_names)
    if not spec.cascade or PRESENT not in stored or not full:
        return ()
    judging = _Judging(result, spec, labels, source, ignore)
    for segment in range(len(result.segmentation)):
        judging.add(segment)
    return judging.scores()


class _Curve:
    """Of rows that came further than a stage: how sure it was of them, and what going on gave and cost."""

    def __init__(self, word: str, classes: int) -> None:
        self.word = word
        entropies = {"entropy", "expected_entropy", "mutual_information"}
        self._most = log(max(2, classes)) if word in entropies else 1.0
        self.rows, self.gain, self.seconds = (np.zeros(_BINS) for _ in range(3))

    def add(self, measures: Doubles, gain: Doubles, seconds: Doubles) -> None:
        """Add rows. gain: what was right of the whole, less what was of the stage; seconds: of the later members."""
        known = np.isfinite(measures)
        share = measures[known] / self._most
        if self.word == "variance":
            share = (np.log10(np.maximum(measures[known], 10**_LEAST)) - _LEAST) / (_MOST - _LEAST)
        places = np.clip((share * _BINS).astype(np.int64), 0, _BINS - 1)
        for sums, values in (
            (self.rows, np.ones(len(places))),
            (self.gain, gain[known]),
            (self.seconds, seconds[known]),
        ):
            sums += np.bincount(places, values, minlength=_BINS)

    def points(self) -> list[tuple[float, float, float, float]]:
        """Return of some limits: the limit, the rows that it would accept besides, what is lost, seconds spared."""
        below = ACCEPTED[self.word] == "below"
        sums = [each if below else each[::-1] for each in (self.rows, self.gain, self.seconds)]
        rows, gain, seconds = (np.cumsum(each) for each in sums)
        if not rows[-1]:
            return []
        chosen = np.unique(np.searchsorted(rows, np.linspace(0, rows[-1], _POINTS + 1)[1:], "left").clip(0, _BINS - 1))
        return [(self._limit(i + 1 if below else _BINS - i - 1), rows[i], gain[i], seconds[i]) for i in chosen]

    def _limit(self, edge: int) -> float:
        share = edge / _BINS
        return float(10 ** (_LEAST + share * (_MOST - _LEAST)) if self.word == "variance" else share * self._most)


class _Judging:
    """One pass over a result."""

    def __init__(self, result: Finished, spec: RunSpec, labels: Read, source: str, ignore: float | None) -> None:
        self._result, self._labels, self._source, self._ignore = result, labels, source, ignore
        prediction, space = result.output("prediction"), str(result.attributes["space"])
        task = str(result.attributes.get("task") or "")
        outputs = outputs_in(task, space, prediction.shape, prediction.class_axis, result.classes)
        self._outputs, self._logits = outputs, space == "logits"
        self._spec, self._names = spec, spec.member_names
        there = {output.name for output in result.outputs}
        self._passes = {name: m for m in self._names if (name := f"{PASS_ENTROPY}{m}") in there}
        combined: Space = result.fingerprint["rule"]["space"]
        axis = result.output(f"members/{self._names[0]}").class_axis
        self._combiner = Combiner(spec, combined, (), rule_digests(spec, combined), axis)
        seconds = seconds_of(result, self._names)
        self._seconds = np.array([seconds.get(name, 0.0) for name in self._names])
        stages = len(spec.cascade)
        self._stage = np.array([spec.stage_of(name) for name in self._names])
        self._came, self._accepted = np.zeros(stages), np.zeros(stages)
        self._good, self._points = np.zeros(stages), np.zeros(stages)  # of what each has accepted
        self._stopped = np.zeros(stages)  # of what came to each, had it been the last
        self._spent = np.zeros(stages)
        words = [[*stage.accept] for stage in spec.cascade]
        self._curves = {n: _Curve(of[0], outputs.classes) for n, of in enumerate(words) if len(of) == 1}

    def add(self, segment: int) -> None:
        """Add the rows of a segment that have labels and are not masked."""
        start, stop = self._result.segmentation.bounds(segment)
        names = ["prediction", PRESENT, *(f"members/{name}" for name in self._names), *self._passes]
        stored = self._result.read(segment, names)
        present = stored[PRESENT] != 0
        keep = np.flatnonzero(present.any(axis=1))
        if not len(keep):
            return
        raw = self._labels(start, stop)[keep]
        targets = as_targets(raw, self._outputs, start + keep, source=self._source, ignore=self._ignore)
        good, points = self._quality(stored["prediction"][keep], targets)
        rows = np.flatnonzero(points)
        stack = {name: stored[f"members/{name}"][keep][rows] for name in self._names}
        passes = {member: stored[name][keep][rows] for name, member in self._passes.items()}
        self._add(present[keep][rows], stack, passes, targets[rows], good[rows], points[rows])

    def _add(
        self,
        present: Array,
        stack: Mapping[str, Floats],
        passes: Mapping[str, Floats],
        targets: Array,
        good: Doubles,
        points: Doubles,
    ) -> None:
        last = np.where(present, self._stage, -1).max(axis=1)
        own_seconds = present * self._seconds
        for number, stage in enumerate(self._spec.cascade):
            came, ends = last >= number, last == number
            self._came[number] += came.sum()
            self._accepted[number] += ends.sum()
            self._good[number] += good[ends].sum()
            self._points[number] += points[ends].sum()
            self._spent[number] += own_seconds[:, self._stage == number].sum()
            asked = present & (self._stage <= number) & came[:, None]
            for rows, measures, prediction in self._combiner.measured(stage, stack, asked, passes):
                stopped, _ = self._quality(prediction, targets[rows])
                self._stopped[number] += stopped.sum()
                further = ~ends[rows]
                if number in self._curves and number < len(self._came) - 1:
                    curve, later = self._curves[number], own_seconds[rows][:, self._stage > number].sum(axis=1)
                    gain = good[rows] - stopped
                    curve.add(measures[curve.word][further], gain[further], later[further])

    def _quality(self, prediction: Floats, targets: Array) -> tuple[Doubles, Doubles]:
        """Return of each row how many labels are right, or of values squared errors, negative; and how many it has."""
        given = np.asarray(self._outputs.flat(prediction), np.float64)
        if self._outputs.kind == "values":
            known = ~np.isnan(targets)
            return -np.where(known, (given - targets) ** 2, 0.0).sum(axis=1), known.sum(axis=1).astype(np.float64)
        if self._outputs.kind == "labels":
            right = (given > (0.0 if self._logits else 0.5)) == targets
        else:
            right = given.argmax(axis=-1) == targets
        known = targets >= 0
        axes = tuple(range(1, known.ndim))
        return (right & known).sum(axis=axes).astype(np.float64), known.sum(axis=axes).astype(np.float64)

    def scores(self) -> tuple[StageScore, ...]:
        """Return what came of all rows."""
        rows, points = self._came[0], self._points.sum()
        whole = rows * self._seconds.sum()
        found = []
        for number, stage in enumerate(self._spec.cascade):
            accepted = self._good[number] / self._points[number] if self._points[number] else None
            ended = (self._good[:number].sum() + self._stopped[number]) / points
            found.append(
                StageScore(
                    members=stage.members,
                    came=int(self._came[number]),
                    accepted=int(self._accepted[number]),
                    quality=None if accepted is None else self._told(accepted),
                    ended=self._told(ended),
                    work=float(self._spent[: number + 1].sum() / whole) if whole else None,
                    limits=self._limits(number, rows, points, whole),
                )
            )
        return tuple(found)

    def _limits(self, number: int, rows: float, points: float, whole: float) -> Sequence[LimitScore]:
        curve = self._curves.get(number)
        if curve is None:
            return ()
        return [
            LimitScore(
                word=curve.word,
                side=ACCEPTED[curve.word],
                limit=limit,
                left=float((self._came[number + 1] - besides) / rows),
                quality=self._told((self._good.sum() - lost) / points),
                work=float((self._spent.sum() - spared) / whole) if whole else None,
            )
            for limit, besides, lost, spared in curve.points()
        ]

    def _told(self, quality: float) -> float:
        """Return a mean as it is told: accuracy, or of values the root of the mean squared error."""
        return float(np.sqrt(max(0.0, -quality))) if self._outputs.kind == "values" else float(quality)
