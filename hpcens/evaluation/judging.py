"""Judge a result against labels: one pass over its segments, each row compared with its checksum on the way."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from hpcens.config import spec_from_json
from hpcens.errors import DataError, UsageError
from hpcens.evaluation.buckets import BUCKETS, buckets_of_groups, buckets_of_rows, draws
from hpcens.evaluation.calibration import calibration_notes
from hpcens.evaluation.classification import Classes, Labels, probabilities_of
from hpcens.evaluation.covering import covering_of
from hpcens.evaluation.evaluation import Evaluation, Gain, Labelling, Omission, RowCounts, Score, more_is_better
from hpcens.evaluation.labels import as_targets, outputs_in, require_stored
from hpcens.evaluation.omissions import Omissions, work_of
from hpcens.evaluation.regression import Values
from hpcens.evaluation.stages import judge_stages
from hpcens.result import PRESENT, Finished
from hpcens.rules import Doubles
from hpcens.shell import listed, option
from hpcens.vocabulary import Array

ENSEMBLE = "/ensemble"  # no member has a slash in its name
_WITHOUT = "/without/"
_COVERING = "/covering"
_BLOCK_BYTES = 32 << 20  # of one source's values in float64
_FEW_BUCKETS = 20
_EPSILON = {"<f8": 2.0**-52, "<f4": 2.0**-23, "<f2": 2.0**-10, "|u1": 1 / 510}
_HEADLINES = ("accuracy", "log_loss", "brier_score", "exact_match", "iou", "root_mean_squared_error", "crps")

Read = Callable[[int, int], Array]
"""Takes (start, stop), returns something of these rows of the result, (rows, …)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What a result is held against, and how.

    labels   labels of rows of the result
    source   where they come from
    follow   whether they are those of the whole dataset
    groups   what rows belong together by; None: each stands for itself
    ignore   value that stands for no label; NaN too; None: every label counts
    top      K of top-K accuracy; None: that of the result, else 5 where there are more classes than that
    members  whether each member is judged; False: the ensemble alone
    """

    labels: Read
    source: str
    follow: bool = False
    groups: Read | None = None
    ignore: float | None = None
    top: int | None = None
    members: bool = True


def judge(result: Finished, question: Question) -> Evaluation:
    """Judge a result.

    Raises UsageError where it does not hold what is judged; DataError where labels do not fit, or rows are not what was
    written.
    """
    found = _Pass(result, question).evaluation()
    return replace(found, stages=judge_stages(result, question.labels, question.source, question.ignore))


class _Pass:
    """One pass over a result: what is judged of it, and what was counted."""

    def __init__(self, result: Finished, question: Question) -> None:
        result.require_all_rows("evaluate")
        self._result, self._question = result, question
        self._stored = {output.name: output for output in result.outputs}
        names = [str(name) for name in result.attributes["member_names"]] if question.members else []
        require_stored(result.path, self._stored, names)
        prediction = self._stored["prediction"]
        self._names = tuple(names)
        self._space = str(result.attributes["space"])
        self._task = str(result.attributes.get("task") or "")
        self._outputs = outputs_in(self._task, self._space, prediction.shape, prediction.class_axis, result.classes)
        spec = spec_from_json(result.document("config"))
        self._calibration = spec.calibration
        self._covering = covering_of(self._stored, self._outputs)
        self._apart = PRESENT in self._stored
        """Whether members have scored rows of their own: each is judged on those, and compared with none."""
        self._omissions = Omissions(result, spec, names) if names and not self._apart else None
        self._without = self._omissions.names if self._omissions else ()
        self._sums_to_one = bool(prediction.attributes.get("sums_to_one", True)) and prediction.dtype != "|u1"
        self._shift: float | None = None
        self._judges: dict[str, Classes | Labels | Values] = {}
        self._bucket_rows = np.zeros(BUCKETS, np.int64)
        self._own_rows = {name: np.zeros(BUCKETS, np.int64) for name in (names if self._apart else ())}
        self._counts = dict.fromkeys(("used", "masked", "unscored", "unlabelled", "points"), 0)
        self._digest = hashlib.sha256()

    def _judge(self, name: str) -> Classes | Labels | Values:
        """Return the judge of a source, made when its first rows come."""
        if name not in self._judges:
            outputs, whole = self._outputs, not name.startswith(_WITHOUT)
            least = _EPSILON.get(self._stored["prediction"].dtype, 2.0**-23)
            if outputs.kind == "values":
                spread = name == ENSEMBLE and len(self._names) > 1 and not self._apart
                self._judges[name] = Values(outputs.points, shift=self._shift or 0.0, spread=spread)
            elif outputs.kind == "labels":
                self._judges[name] = Labels(outputs.classes, least=least, whole=whole)
            else:
                top = self._top if whole else 0
                self._judges[name] = Classes(
                    outputs.classes, dense=outputs.points > 1, top=top, least=least, whole=whole
                )
        return self._judges[name]

    @property
    def _top(self) -> int:
        top = self._question.top or self._result.top
        classes = self._outputs.classes
        if top is not None and self._question.top and top >= classes:
            raise UsageError(f"top-{top} accuracy of {classes} classes is 1", f"ask for fewer: {option('top')}")
        chosen = top if top is not None else 5
        return chosen if 1 < chosen < classes else 0

    def evaluation(self) -> Evaluation:
        """Read every segment, and return what comes of it."""
        for segment in range(len(self._result.segmentation)):
            self._add_segment(segment)
        if not self._counts["used"]:
            raise DataError(
                f"{self._result.path}: no row of it counts: {self._counts['masked']} are masked,"
                f" {self._counts['unlabelled']} without a label",
                f"check the labels, and {option('ignore')}",
            )
        return self._measured()

    def _add_segment(self, segment: int) -> None:
        start, stop = self._result.segmentation.bounds(segment)
        names = ["prediction", *(f"members/{name}" for name in self._names)]
        covering = self._covering.name if self._covering is not None else ""
        stored = self._result.read(segment, [*names, covering])
        masked = self._result.masked(segment)
        stack = {name: stored[f"members/{name}"] for name in self._names}
        sources = {ENSEMBLE: self._unscaled(stored["prediction"])}
        sources |= {name: self._unscaled(values) for name, values in stack.items()}
        if self._omissions is not None:
            others = self._omissions.predictions(segment, stack, masked)
            sources |= {f"{_WITHOUT}{name}": values for name, values in others.items()}
        sources |= {_COVERING: stored[covering]} if covering else {}
        valid = np.ones(stop - start, bool)
        valid[masked] = False
        self._counts["masked"] += len(masked)
        step = max(1, _BLOCK_BYTES // (8 * max(1, int(np.prod(self._outputs.shape)))))
        for low in range(0, stop - start, step):
            rows = slice(low, min(low + step, stop - start))
            self._add(start + low, valid[rows], {name: values[rows] for name, values in sources.items()})

    def _unscaled(self, values: Array) -> Array:
        scale = self._stored["prediction"].attributes.get("scale")
        return values if scale is None else values * float(scale)

    def _add(self, first: int, valid: Array, sources: Mapping[str, Array]) -> None:
        question, outputs = self._question, self._outputs
        if not valid.any():
            return
        stop = first + len(valid)
        raw = question.labels(first, stop)[valid]
        total = self._result.segmentation.rows
        buckets = (
            buckets_of_rows(first, len(valid), total)
            if question.groups is None
            else buckets_of_groups(question.groups(first, stop))
        )[valid]
        numbers = first + np.flatnonzero(valid)
        targets = as_targets(raw, outputs, numbers, source=question.source, ignore=question.ignore)
        self._digest.update(np.ascontiguousarray(targets).tobytes())
        outputs_of = {name: np.asarray(outputs.flat(values[valid]), np.float64) for name, values in sources.items()}
        finite = np.ones(len(targets), bool)
        for values in (outputs_of[ENSEMBLE],) if self._apart else outputs_of.values():
            finite &= _scored(values)
        known = ~np.isnan(targets) if outputs.kind == "values" else targets >= 0
        labelled = known.reshape(len(targets), -1).any(1)
        used = finite & labelled
        self._counts["unscored"] += int((~finite).sum())
        self._counts["unlabelled"] += int((finite & ~labelled).sum())
        self._counts["used"] += int(used.sum())
        self._counts["points"] += int(known[used].sum())
        if not used.any():
            return
        self._bucket_rows += np.bincount(buckets[used], minlength=BUCKETS)
        self._judge_rows(buckets[used], targets[used], {name: values[used] for name, values in outputs_of.items()})

    def _judge_rows(self, buckets: Array, targets: Array, outputs_of: Mapping[str, Doubles]) -> None:
        if self._shift is None and self._outputs.kind == "values":
            self._shift = float(targets[~np.isnan(targets)][0])
        for name, values in outputs_of.items():
            if name == _COVERING and self._covering is not None:
                self._covering.add(buckets, values, targets)
                continue
            there: Array | slice = slice(None)
            if name in self._own_rows:
                there = _scored(values)
                if not there.any():
                    continue
                self._own_rows[name] += np.bincount(buckets[there], minlength=BUCKETS)
            judge = self._judge(name)
            if isinstance(judge, Values):
                together = name == ENSEMBLE and len(self._names) > 1 and not self._apart
                stack = [outputs_of[member] for member in self._names] if together else []
                judge.add(buckets[there], values[there], targets[there], stack)
            else:
                how = dict(labels=self._outputs.kind == "labels", logits=self._space == "logits")
                p = probabilities_of(values[there], **how, whole=self._sums_to_one)
                judge.add(buckets[there], p, targets[there])

    def _measured(self) -> Evaluation:
        counts = draws(self._bucket_rows)
        own = {name: draws(rows) for name, rows in self._own_rows.items()}
        judges = {name: judge for name, judge in self._judges.items() if name not in own or self._own_rows[name].any()}
        drawn = {name: judge.measures(own.get(name, counts)) for name, judge in judges.items()}
        scores = {
            name: {m: Score.of_draws(values) for m, values in measures.items()} for name, measures in drawn.items()
        }
        for name, judge in judges.items():
            if name.startswith(_WITHOUT):
                continue
            scores[name] |= {m: Score(binned.value, error=binned.error) for m, binned in judge.fixed().items()}
        if self._covering is not None:
            covered = self._covering.measures(counts)
            scores[ENSEMBLE] |= {m: Score.of_draws(values) for m, values in covered.items()}
        ensemble = self._judges[ENSEMBLE]
        work = work_of(self._result, self._names)
        headlines = [measure for measure in drawn[ENSEMBLE] if measure in _HEADLINES]
        left_out = {
            name: Omission(
                work.get(name),
                {
                    m: Score.of_draws(drawn[f"{_WITHOUT}{name}"][m] - drawn[ENSEMBLE][m])
                    for m in headlines
                    if m in drawn[f"{_WITHOUT}{name}"]
                },
            )
            for name in self._without
        }
        outputs = self._outputs
        tree = json.dumps(self._result.fingerprint, sort_keys=True)
        return Evaluation(
            result=str(self._result.path),
            fingerprint=hashlib.sha256(tree.encode()).hexdigest(),
            task=self._task or {"values": "regression", "labels": "multilabel"}.get(outputs.kind, "multiclass"),
            labels=Labelling(self._question.source, self._digest.hexdigest(), self._question.follow),
            rows=RowCounts(self._result.segmentation.rows, **self._counts),
            ensemble=scores[ENSEMBLE],
            members={name: scores[name] for name in self._names if name in scores},
            gains=self._gains(drawn, headlines),
            leave_one_out=left_out,
            curves=ensemble.curves(),
            classes=[outputs.name(index) for index in range(outputs.classes)],
            of_class=ensemble.of_class,
            notes=[*self._notes()],
        )

    def _gains(self, drawn: Mapping[str, Mapping[str, Doubles]], headlines: list[str]) -> dict[str, Gain]:
        gains: dict[str, Gain] = {}
        for measure in headlines if len(self._names) > 1 and not self._apart else []:
            measured = [name for name in self._names if measure in drawn[name]]
            if measured:
                sign = -1 if more_is_better(measure) else 1
                best = min(measured, key=lambda name: sign * float(drawn[name][measure][0]))
                difference = drawn[ENSEMBLE][measure] - drawn[best][measure]
                gains[measure] = Gain(best, Score.of_draws(difference))
        return gains

    def _notes(self) -> Iterator[str]:
        ensemble, filled = self._judges[ENSEMBLE], int(np.count_nonzero(self._bucket_rows))
        if absent := [self._outputs.name(i) for i, count in enumerate(ensemble.of_class) if not count]:
            yield f"no label is {listed(absent)}: roc_auc is the mean of the other classes"
        if self._outputs.kind == "classes" and not self._sums_to_one and self._space == "probabilities":
            yield "stored probabilities need not add up to 1: they are divided by their sum"
        if isinstance(ensemble, Values) and ensemble.without_spread:
            yield f"negative_log_likelihood leaves out {ensemble.without_spread} numbers on which all members agree"
        if self._omissions is not None and self._omissions.why:
            yield f"leaving members out is not judged: {self._omissions.why}"
        if self._calibration is not None:
            data = self._result.fingerprint["data"]
            yield from calibration_notes(self._calibration, data, self._covering, self._outputs)
        if filled < _FEW_BUCKETS:
            what = "groups" if self._question.groups is not None else "rows"
            yield f"intervals rest on {filled} {what} alone"
        if self._names and self._apart:
            yield "members have scored rows of their own: each is judged on those, and compared with no other"
        elif len(self._names) > 1:
            yield "which member is best was found on the rows that it is judged on"


def _scored(values: Doubles) -> Array:
    """Return (rows,) bool: whether all numbers of the row are finite."""
    return np.asarray(np.isfinite(values).reshape(len(values), -1).all(1))
