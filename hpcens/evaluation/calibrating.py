"""Calibrate a result: a pass over the rows to fit a temperature on, some over those to rank, one over those to judge.

Rows are dealt as `parts` has them. The first pass keeps
labels' logits in memory: all where they fit into 128 MiB in float64, else as many as about fit, drawn by another hash;
the second finds an exact order statistic (`order`), the third keeps sums by bucket. None depends on how rows are cut.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import replace
from math import ceil
from pathlib import Path

import numpy as np

from hpcens.errors import DataError, UsageError
from hpcens.evaluation.buckets import BUCKETS, draws, shares_of_rows
from hpcens.evaluation.calibration import Calibrated, digest_of, missed_notes
from hpcens.evaluation.classification import Classes, Labels
from hpcens.evaluation.covering import Sets, covering_of
from hpcens.evaluation.evaluation import Score
from hpcens.evaluation.labels import outputs_in
from hpcens.evaluation.losses import Loss
from hpcens.evaluation.order import OrderStatistics
from hpcens.evaluation.parts import Aim, Block, Part, Parts
from hpcens.evaluation.temperature import LIMITS, best_temperature
from hpcens.result import Finished, calibrated_of
from hpcens.rules import Calibrator, Doubles, Floats, logits_of, probabilities_at, rank_of
from hpcens.shell import listed, option
from hpcens.specs import Calibration

_KEPT_BYTES = 128 << 20
_KEPT = 4  # what a hash is for
_MOST_THRESHOLDS = 256  # numbers a row of which each has its own
_EPSILON = {"<f8": 2.0**-52}
_FEW_BUCKETS = 20


def calibrate(result: Finished, aim: Aim) -> Calibrated:
    """Calibrate a result.

    Raises UsageError where it does not hold what is calibrated, or cannot keep the coverage; DataError where labels do
    not fit, or rows are not what was written.
    """
    return _Calibrating(result, aim).calibrated()


class _Calibrating:
    """A result that is to be calibrated."""

    def __init__(self, result: Finished, aim: Aim) -> None:
        result.require_all_rows("calibrate")
        self._result, self._aim = result, aim
        stored = {output.name: output for output in result.outputs}
        prediction = stored.get("prediction")
        if prediction is None or prediction.dtype not in ("<f4", "<f8"):
            what = "does not hold its predictions" if prediction is None else "holds its predictions rounded"
            raise UsageError(
                f"{result.path} {what}", "score again with prediction among output.datasets, in output.dtype: float32"
            )
        if "calibration" in result.fingerprint["rule"]:
            raise UsageError(
                f"{result.path} is calibrated already", "combine it without first: hpcens combine, calibration: false"
            )
        self._space = str(result.attributes["space"])
        task = str(result.attributes.get("task") or "")
        self._outputs = outputs_in(task, self._space, prediction.shape, prediction.class_axis, result.classes)
        self._kind = self._outputs.kind
        self._parts = Parts(result, aim, self._outputs)
        self._require_kind()
        self._as_stored = bool(prediction.attributes.get("sums_to_one", True)) and self._space == "probabilities"
        self._least = _EPSILON.get(prediction.dtype, 2.0**-23)
        self._labels_seen = np.zeros(max(1, self._outputs.classes), np.int64)
        self._rows: dict[Part, int] = {}
        self._digest = hashlib.sha256()
        self._notes: list[str] = []

    def _require_kind(self) -> None:
        if self._kind != "values" and self._space == "values":
            raise UsageError(
                f"{self._result.path} has values of classes, which are no probabilities",
                "say task: multiclass or task: regression in the YAML, and score again",
            )
        if self._kind == "values" and self._aim.coverage is None:
            raise UsageError(
                "values have no temperature", f"say what intervals are to cover: {option('coverage', 0.9)}"
            )
        if self._kind == "labels" and self._aim.coverage is not None:
            raise UsageError(
                "sets are of classes that exclude one another, and the task is multilabel",
                f"leave out {option('coverage')}",
            )

    def calibrated(self) -> Calibrated:
        """Fit, rank and judge."""
        temperature = None if self._kind == "values" else self._fit()
        kind, made_of = self._kind, json.loads(json.dumps(calibrated_of(self._result.fingerprint)))
        calibration = Calibration(path=Path(), kind=kind, temperature=temperature, made_of=made_of)
        if self._aim.coverage is not None:
            calibration = self._rank(calibration)
        fitted, ranked = self._rows.get("fitted", 0), self._rows.get("ranked", 0)
        data = digest_of(self._result.fingerprint["data"])
        calibration = replace(calibration, data=data, rows=self._digest.hexdigest(), n=fitted + ranked)
        tree = json.dumps(self._result.fingerprint, sort_keys=True)
        judged = self._judged(calibration)
        return replace(
            judged,
            result=str(self._result.path),
            fingerprint=hashlib.sha256(tree.encode()).hexdigest(),
            labels=self._aim.source,
            fitted=fitted,
            ranked=ranked,
            notes=tuple(self._notes),
        )

    def _fit(self) -> float:
        """Return the temperature under which the loss is least."""
        loss = Loss(self._outputs, "logits", "log_loss", self._least)
        points = self._result.segmentation.rows * loss.points
        share = _KEPT_BYTES / (8 * loss.depth * points)
        terms: list[Doubles] = []
        total = 0
        for block in self._used("fitted"):
            logits = self._logits(block.values)
            of_points = loss.terms(logits, block.targets).reshape(-1, loss.depth)
            labelled = loss.known(block.targets).reshape(-1)
            total += int(labelled.sum())
            if share < 1:
                first = int(block.numbers[0])
                shares = shares_of_rows(
                    first * loss.points, (int(block.numbers[-1]) + 1 - first) * loss.points, self._parts.purpose(_KEPT)
                )
                labelled &= (shares.reshape(-1, loss.points)[block.numbers - first] < share).reshape(-1)
            terms.append(of_points[labelled])
        kept = np.concatenate(terms) if terms else np.zeros((0, 1))
        if not len(kept):
            raise self._empty("fit")
        if len(kept) < total:
            self._notes.append(
                f"the temperature was fitted on {len(kept):,} of the {total:,} labels of that part, drawn by a hash"
            )
        temperature = best_temperature(kept)
        if temperature in LIMITS:
            self._notes.append(f"the temperature is at its limit: no temperature within {LIMITS} is best")
        return temperature

    def _rank(self, calibration: Calibration) -> Calibration:
        """Return the calibration with thresholds that keep the coverage."""
        coverage = self._aim.coverage
        assert coverage is not None, "asked for where there is one"
        width = self._outputs.points if self._kind == "values" else 0
        order = OrderStatistics(width if 1 <= width <= _MOST_THRESHOLDS else 1)
        again = False
        while not order.done:
            for block in self._parts.blocks("ranked") if again else self._used("ranked"):
                order.add(self._scores(block, calibration).reshape(-1, len(order.counts)))
            counts = order.counts
            if not again and min(counts) < rank_of(coverage, min(counts)):
                raise UsageError(
                    f"a coverage of {coverage:g} takes {ceil(round(1 / (1 - coverage), 6)) - 1} labels or more to"
                    f" rank, and there are {min(counts)}",
                    f"give more rows, hold fewer out ({option('holdout')}), or ask for less coverage",
                )
            order.end_pass([rank_of(coverage, count) for count in counts])
            again = True
        return replace(calibration, coverage=coverage, thresholds=order.values)

    def _scores(self, block: Block, calibration: Calibration) -> Doubles:
        """Return how far each point is off, (rows, points) or (rows, numbers); NaN where no label is known."""
        if self._kind == "values":
            return np.abs(block.values.astype(np.float64) - block.targets)
        probabilities = probabilities_at(calibration.temperature or 1.0, self._logits(block.values), labels=False)
        places = np.where(block.known, block.targets, 0)[..., None]
        scores = 1 - np.take_along_axis(probabilities, places, -1)[..., 0]
        return np.where(block.known, scores, np.nan)

    def _judged(self, calibration: Calibration) -> Calibrated:
        """Return what the calibration is worth on the rows to judge."""
        calibrator = Calibrator(calibration, logits=self._space == "logits")
        before, after = (self._judge(), self._judge()) if self._kind != "values" else (None, None)
        covering = covering_of([calibration.covering], self._outputs)
        rows_of_bucket = np.zeros(BUCKETS, np.int64)
        for block in self._parts.blocks("judged"):
            rows_of_bucket += np.bincount(block.buckets, minlength=BUCKETS)
            if before is not None and after is not None:
                before.add(block.buckets, self._probabilities(block.values, raw=True), block.targets)
                tempered = self._probabilities(calibrator.prediction(block.values), raw=False)
                after.add(block.buckets, tempered, block.targets)
            if isinstance(covering, Sets):
                covering.add(block.buckets, calibrator.sets(block.values), block.targets)
            elif covering is not None:
                covering.add(block.buckets, calibrator.intervals(block.values), block.targets)
        if not (judged := int(rows_of_bucket.sum())):
            raise self._empty("judge")
        counts = draws(rows_of_bucket)
        measured = [{} if judge is None else judge.measures(counts) for judge in (before, after)]
        scores = [{m: Score.of_draws(drawn) for m, drawn in measures.items()} for measures in measured]
        for of_judge, judge in zip(scores, (before, after), strict=True):
            if judge is not None:
                error = judge.fixed()["calibration_error"]
                of_judge["calibration_error"] = Score(error.value, error=error.error)
        if covering is not None:
            scores[1] |= {m: Score.of_draws(drawn) for m, drawn in covering.measures(counts).items()}
        self._note(calibration, int(np.count_nonzero(rows_of_bucket)))
        if calibration.coverage is not None:
            self._notes += missed_notes(calibration.coverage, covering, self._outputs)
        return Calibrated(
            calibration=calibration,
            result="",
            fingerprint="",
            labels="",
            fitted=0,
            ranked=0,
            judged=judged,
            in_sample=self._parts.in_sample,
            before=scores[0],
            after=scores[1],
            reliability={
                name: judge.curves()["reliability"]
                for name, judge in (("before", before), ("after", after))
                if judge is not None
            },
            changes={m: Score.of_draws(drawn - measured[0][m]) for m, drawn in measured[1].items()},
        )

    def _judge(self) -> Classes | Labels:
        outputs = self._outputs
        if self._kind == "labels":
            return Labels(outputs.classes, least=self._least)
        return Classes(outputs.classes, dense=False, top=0, least=self._least)

    def _logits(self, values: Floats) -> Doubles:
        return logits_of(values, logits=self._space == "logits", labels=self._kind == "labels")

    def _probabilities(self, values: Floats, *, raw: bool) -> Doubles:
        """Return probabilities of what is stored. raw: as it is now; what is calibrated adds up to 1."""
        if self._space == "probabilities" and (self._kind == "labels" or self._as_stored or not raw):
            return values.astype(np.float64)
        return probabilities_at(1.0, self._logits(values), labels=self._kind == "labels")

    def _used(self, part: Part) -> Iterator[Block]:
        """Read the rows of a part that something is fitted on, for the first time: they are counted and digested."""
        numbers, targets = hashlib.sha256(), hashlib.sha256()
        rows = 0
        for block in self._parts.blocks(part):
            rows += len(block.numbers)
            numbers.update(np.ascontiguousarray(block.numbers, "<i8").tobytes())
            targets.update(np.ascontiguousarray(block.targets).tobytes())
            if self._kind == "classes":
                self._labels_seen += np.bincount(block.targets[block.known], minlength=len(self._labels_seen))
            yield block
        self._rows[part] = rows
        self._digest.update(f"{part} {numbers.hexdigest()} {targets.hexdigest()}\n".encode())

    def _empty(self, what: str) -> DataError:
        return DataError(
            f"{self._result.path}: no row is left to {what} on",
            f"check the labels, {', '.join(map(option, ('groups', 'ignore', 'holdout')))} and {option('split')}",
        )

    def _note(self, calibration: Calibration, filled: int) -> None:
        outputs, notes = self._outputs, self._notes
        if self._parts.in_sample:
            notes.append("in sample: judged on the rows that it was fitted on, which flatters it")
        absent = [outputs.name(i) for i, count in enumerate(self._labels_seen) if not count]
        if self._kind == "classes" and absent:
            notes.append(f"no label that it was fitted on is {listed(absent)}: it says nothing of rows that are")
        if calibration.coverage is not None and outputs.points > 1 and self._kind == "classes":
            notes.append("the coverage is that of points, and points of one row depend on each other")
        if calibration.coverage is not None and self._aim.groups is not None:
            notes.append("the coverage is kept on average over groups, whose rows depend on each other")
        if filled < _FEW_BUCKETS:
            notes.append(f"the scores rest on {filled} {'groups' if self._aim.groups is not None else 'rows'} alone")
