"""Select members of a result: one pass over the rows to choose on, one over those to judge on.

Rows are dealt to the two parts by a hash of their number, or of the group they belong to. The first pass keeps rows of
its part in memory: all where they fit into 128 MiB in float64, else as many as about fit, drawn by another hash. What
is kept of a row, `losses` says. The second keeps sums by bucket. Neither depends on how the rows are cut up.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from hpcens.config import spec_from_json
from hpcens.errors import DataError, UsageError
from hpcens.evaluation.buckets import (
    BUCKETS,
    Sums,
    buckets_of_groups,
    buckets_of_rows,
    draws,
    shares_of_groups,
    shares_of_rows,
)
from hpcens.evaluation.choosing import Sample, combined, frontier
from hpcens.evaluation.evaluation import Score
from hpcens.evaluation.judging import Read
from hpcens.evaluation.labels import as_targets, outputs_in
from hpcens.evaluation.losses import By, Loss
from hpcens.evaluation.omissions import seconds_of
from hpcens.evaluation.parts import held_out
from hpcens.evaluation.selection import Selection, Step, chosen_spec
from hpcens.result import PRESENT, Finished, rounded_members
from hpcens.rules import Doubles, weights_of
from hpcens.shell import option, verb
from hpcens.specs import RunSpec
from hpcens.vocabulary import Array

Method = Literal["greedy", "weights"]
_BUDGETS = 8  # with which members are taken, so that there is something to choose from at each
_KEPT_BYTES = 128 << 20
_BLOCK_BYTES = 32 << 20  # of all members' values in float64
_PART, _KEPT = 1, 2  # what hashes are for
_EPSILON = {"<f8": 2.0**-52}


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What is to be selected, and by what.

    labels   labels of rows of the result
    source   where they come from
    groups   what rows belong together by; None: each stands for itself
    ignore   value that stands for no label; NaN too; None: every label counts
    by       which loss; None: log_loss of classes, squared_error of values
    method   greedy, or weights
    holdout  share of the rows, or groups, that are judged on
    split    instead: 1 where rows are chosen on, 0 where they are judged on
    budget   device-hours for as many rows as the result has; None: as many as all members take
    """

    labels: Read
    source: str
    groups: Read | None = None
    ignore: float | None = None
    by: By | None = None
    method: Method = "greedy"
    holdout: float = 0.5
    split: Read | None = None
    budget: float | None = None


@dataclass(frozen=True, slots=True)
class _Block:
    """Rows of one part: their numbers and buckets, what is kept of each member, and which points count."""

    numbers: Array
    buckets: Array
    terms: list[Doubles]
    known: Array


def select(result: Finished, wish: Wish) -> Selection:
    """Select members.

    Raises UsageError where the result does not hold what they are chosen by, or nothing is within the budget; DataError
    where labels do not fit, or rows are not what was written.
    """
    return _Selecting(result, wish).selection()


class _Selecting:
    """A result whose members are to be chosen."""

    def __init__(self, result: Finished, wish: Wish) -> None:
        result.require_all_rows("select")
        self._result, self._wish = result, wish
        if not 0 < wish.holdout < 1:
            raise UsageError(
                f"a holdout of {wish.holdout} leaves one part empty", f"for example {option('holdout', 0.5)}"
            )
        self._spec: RunSpec = spec_from_json(result.document("config"))
        self._names = self._spec.member_names
        self._require_fit()
        stored = result.output(f"members/{self._names[0]}")
        space = str(result.fingerprint["rule"]["space"])
        task = str(result.attributes.get("task") or "")
        self._outputs = outputs_in(task, space, stored.shape, stored.class_axis, result.classes)
        by: By = wish.by or ("squared_error" if self._outputs.kind == "values" else "log_loss")
        self._loss = Loss(self._outputs, space, by, _EPSILON.get(stored.dtype, 2.0**-23))
        self._seconds = seconds_of(result, self._names)
        if wish.budget is not None and not self._seconds:
            raise UsageError(
                f"{result.path} keeps no plan that says what its members' work is", f"select without {option('budget')}"
            )
        self._costs = [self._hours(name) if self._seconds else 1.0 for name in self._names]
        if wish.budget is not None and not wish.budget >= min(self._costs):
            cheapest = self._names[self._costs.index(min(self._costs))]
            raise UsageError(
                f"a budget of {wish.budget:g} device-hours is less than any member takes",
                f"the cheapest, {cheapest}, takes {min(self._costs):.3g}",
            )

    def _hours(self, name: str) -> float:
        return self._seconds[name] * self._result.segmentation.rows / 3600

    def _require_fit(self) -> None:
        path, rule = self._result.path, self._spec.rule.name
        stored = {output.name for output in self._result.outputs}
        if missing := [name for name in self._names if f"members/{name}" not in stored]:
            raise UsageError(
                f"{path} does not hold the outputs of its members ({', '.join(missing)})",
                "score again with output.datasets: [prediction, members]",
            )
        if PRESENT in stored:
            raise UsageError(
                f"members of {path} have scored rows of their own (members[].rows), on which they cannot be compared",
                "select from a result of which all members have scored all rows",
            )
        if len(self._names) < 2:
            raise UsageError(f"{path} has one member alone", "select from a result of several")
        if rule not in ("mean", "weighted"):
            raise UsageError(
                f"rule {rule} of {path} takes no weights", f"combine it by mean first: {verb('combine', rule='mean')}"
            )
        if rounded := rounded_members(self._result.fingerprint, self._names):
            dtype = self._result.fingerprint["outputs"]["dtype"]
            raise UsageError(
                f"{path} holds the outputs of {', '.join(rounded)} as {dtype}, rounded",
                "score again with output.dtype: float32, or float64 for members of that precision",
            )

    def selection(self) -> Selection:
        """Choose, and judge what was chosen."""
        sample, chosen_on, kept = self._sample()
        limit = math.inf if self._wish.budget is None else self._wish.budget
        singles = sample.singles()
        if self._wish.method == "weights":
            found = sample.weighted()
        else:
            between = np.linspace(min(self._costs), sum(self._costs), _BUDGETS + 1)[:-1].tolist()
            found = [each for budget in (*between, limit, math.inf) for each in sample.greedy(budget)]
        curve = frontier([*singles, *found])
        chosen = [each for each in curve if each.cost <= limit][-1]
        best = min(range(len(singles)), key=lambda i: singles[i].loss)
        everyone = weights_of(self._spec.rule, self._spec.members)
        ensembles = [chosen.weights, everyone, singles[best].weights, *(each.weights for each in curve)]
        drawn, judged_on, filled = self._judged(ensembles)
        steps = [self._step(weights, of_draws) for weights, of_draws in zip(ensembles, drawn, strict=True)]
        tree = json.dumps(self._result.fingerprint, sort_keys=True)
        return Selection(
            result=str(self._result.path),
            fingerprint=hashlib.sha256(tree.encode()).hexdigest(),
            measure=self._loss.measure,
            method=self._wish.method,
            labels=self._wish.source,
            chosen_on=chosen_on,
            kept=kept,
            judged_on=judged_on,
            chosen=steps[0],
            all_members=steps[1],
            best_member=self._names[best],
            best=steps[2].score,
            less_all_members=Score.of_draws(drawn[0] - drawn[1]),
            less_best_member=Score.of_draws(drawn[0] - drawn[2]),
            budget=self._wish.budget,
            frontier=steps[3:],
            spec=chosen_spec(self._spec, steps[0].weights),
            notes=[*self._notes(chosen_on, kept, filled)],
        )

    def _step(self, weights: Sequence[float], drawn: Doubles) -> Step:
        taken = {name: weight for name, weight in zip(self._names, weights, strict=True) if weight}
        hours = sum(map(self._hours, taken)) if self._seconds else None
        work = None if hours is None else hours / sum(self._costs)
        return Step(taken, work, hours, Score.of_draws(drawn))

    def _sample(self) -> tuple[Sample, int, int]:
        """Return the rows to choose on, how many there are, and how many of them are kept."""
        row_bytes = 8 * len(self._names) * self._loss.points * self._loss.depth
        rows = self._result.segmentation.rows * (1 - self._wish.holdout * (self._wish.split is None))
        share = (_KEPT_BYTES / row_bytes) / rows
        terms: list[list[Doubles]] = [[] for _ in self._names]
        labelled: list[Array] = []
        total = 0
        for block in self._blocks(judged=False):
            total += len(block.numbers)
            drawn = np.ones(len(block.numbers), bool)
            if share < 1:
                first = int(block.numbers[0])
                shares = shares_of_rows(first, int(block.numbers[-1]) - first + 1, _KEPT)
                drawn = shares[block.numbers - first] < share
            for kept, of_member in zip(terms, block.terms, strict=True):
                kept.append(of_member[drawn])
            labelled.append(block.known[drawn])
        count = sum(map(len, labelled))
        if not count:
            raise self._empty("choose")
        # member by member, so that what was collected goes as it is copied
        stack = np.empty((len(terms), count, self._loss.points, self._loss.depth))
        for into, kept in zip(stack, terms, strict=True):
            np.concatenate(kept, out=into)
            kept.clear()
        return Sample(self._loss, stack, np.concatenate(labelled), self._costs), total, count

    def _judged(self, ensembles: Sequence[Sequence[float]]) -> tuple[list[Doubles], int, int]:
        """Return the mean loss of each ensemble in each draw, of how many rows, and of how many buckets."""
        sums = Sums({"losses": len(ensembles), "points": 1})
        rows_of_bucket = np.zeros(BUCKETS, np.int64)
        for block in self._blocks(judged=True):
            rows_of_bucket += np.bincount(block.buckets, minlength=BUCKETS)
            losses = [self._loss.losses(combined(weights, block.terms), block.known).sum(1) for weights in ensembles]
            sums.add(block.buckets, {"losses": np.stack(losses, 1), "points": block.known.sum(1)})
        if not rows_of_bucket.any():
            raise self._empty("judge")
        counts = draws(rows_of_bucket)
        points = sums.drawn("points", counts)
        drawn = sums.drawn("losses", counts) / np.maximum(points, 1)
        return [*drawn.T], int(rows_of_bucket.sum()), int(np.count_nonzero(rows_of_bucket))

    def _empty(self, what: str) -> DataError:
        return DataError(
            f"{self._result.path}: no row is left to {what} on",
            f"check the labels, {', '.join(map(option, ('groups', 'ignore', 'holdout')))}",
        )

    def _blocks(self, *, judged: bool) -> Iterator[_Block]:
        """Read the rows of one part that have a label and finite outputs, in their order."""
        step = max(1, _BLOCK_BYTES // (8 * len(self._names) * max(1, math.prod(self._outputs.shape))))
        for segment in range(len(self._result.segmentation)):
            start, stop = self._result.segmentation.bounds(segment)
            stored = self._result.read(segment, [f"members/{name}" for name in self._names])
            valid = np.ones(stop - start, bool)
            valid[self._result.masked(segment)] = False
            for low in range(0, stop - start, step):
                rows = slice(low, min(low + step, stop - start))
                of_rows = {name: stored[f"members/{name}"][rows] for name in self._names}
                block = self._block(start + low, valid[rows], of_rows, judged=judged)
                if block is not None:
                    yield block

    def _block(self, first: int, valid: Array, values: Mapping[str, Array], *, judged: bool) -> _Block | None:
        wish, count = self._wish, len(valid)
        groups = None if wish.groups is None else wish.groups(first, first + count)
        shares = shares_of_rows(first, count, _PART) if groups is None else shares_of_groups(groups, _PART)
        held = shares < wish.holdout if wish.split is None else held_out(wish.split, first, count)
        used = valid & (held == judged)
        if not used.any():
            return None
        total = self._result.segmentation.rows
        buckets = buckets_of_rows(first, count, total) if groups is None else buckets_of_groups(groups)
        raw = wish.labels(first, first + count)[used]
        numbers = first + np.flatnonzero(used)
        targets = as_targets(raw, self._outputs, numbers, source=wish.source, ignore=wish.ignore)
        outputs = [np.asarray(self._outputs.flat(of_rows[used]), np.float64) for of_rows in values.values()]
        labelled = self._loss.known(targets)
        kept = labelled.any(1)
        for of_member in outputs:
            kept &= np.isfinite(of_member).reshape(len(of_member), -1).all(1)
        if not kept.any():
            return None
        terms = [self._loss.terms(of_member[kept], targets[kept]) for of_member in outputs]
        return _Block(numbers[kept], buckets[used][kept], terms, labelled[kept])

    def _notes(self, chosen_on: int, kept: int, filled: int) -> Iterator[str]:
        if self._spec.calibration is not None:
            yield "the result's calibration is of all its members: it is left out, here and in the YAML"
        if kept < chosen_on:
            yield f"chosen on {kept:,} of the {chosen_on:,} rows of that part, drawn by a hash of their number"
        if filled < 20:
            yield f"intervals rest on {filled} {'groups' if self._wish.groups is not None else 'rows'} alone"
        if not self._seconds:
            yield "the result keeps no plan that says what its members' work is: the frontier counts members"
