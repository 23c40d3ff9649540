"""Parts of a result's rows that something is fitted on, and those that it is judged on; disjoint.

Rows are dealt to them by a hash of their number, or of the group they belong to, or by a column.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Literal

import numpy as np

from hpcens.errors import DataError, UsageError
from hpcens.evaluation.buckets import buckets_of_groups, buckets_of_rows, shares_of_groups, shares_of_rows
from hpcens.evaluation.judging import Read
from hpcens.evaluation.labels import Outputs, as_targets
from hpcens.result import Finished
from hpcens.rules import Doubles, Floats
from hpcens.shell import option
from hpcens.vocabulary import Array

Part = Literal["fitted", "ranked", "judged"]
_BLOCK_BYTES = 32 << 20  # of values in float64
_PART, _RANKED = 1, 3  # what hashes are for; the first is that of `selecting`
_SEEDS = 1 << 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Aim:
    """What is to be calibrated, and on which rows.

    labels    labels of rows of the result
    source    where they come from
    groups    what rows belong together by; None: each stands for itself
    ignore    value that stands for no label; NaN too; None: every label counts
    coverage  share of new points that sets or intervals are to cover; None: a temperature alone
    holdout   share of the rows, or groups, that are judged on; 0: those that it is fitted on
    split     instead: 1 where rows are fitted on, 0 where they are judged on
    seed      of the hash that deals rows to parts
    """

    labels: Read
    source: str
    groups: Read | None = None
    ignore: float | None = None
    coverage: float | None = None
    holdout: float = 0.5
    split: Read | None = None
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Block:
    """Rows of one part.

    numbers  of the rows
    buckets  of each
    values   predicted, (rows, points, classes) or (rows, numbers), as stored
    targets  as `as_targets` has them
    known    which of them count, in their shape
    """

    numbers: Array
    buckets: Array
    values: Floats
    targets: Array
    known: Array


class Parts:
    """The rows of a result's predictions, a part at a time.

    outputs  what predictions are
    """

    def __init__(self, result: Finished, aim: Aim, outputs: Outputs) -> None:
        if not 0 <= aim.holdout < 1:
            raise UsageError(
                f"a holdout of {aim.holdout} leaves no row to fit on", f"for example {option('holdout', 0.5)}"
            )
        if aim.coverage is not None and not 0 < aim.coverage < 1:
            raise UsageError(f"a coverage of {aim.coverage} is no share", f"for example {option('coverage', 0.9)}")
        if not 0 <= aim.seed < _SEEDS:
            raise UsageError(f"the seed {aim.seed} is not 0 to {_SEEDS - 1}", f"for example {option('seed', 1)}")
        self._result, self._aim, self._outputs = result, aim, outputs

    @property
    def in_sample(self) -> bool:
        """Whether rows are judged that something was fitted on."""
        return self._aim.split is None and self._aim.holdout == 0

    def purpose(self, purpose: int) -> int:
        """Return what a hash is for, under the seed."""
        return purpose + (self._aim.seed << 8)

    def blocks(self, part: Part) -> Iterator[Block]:
        """Read the rows of one part that have a label and finite predictions, in their order."""
        step = max(1, _BLOCK_BYTES // (8 * max(1, prod(self._outputs.shape))))
        for segment in range(len(self._result.segmentation)):
            start, stop = self._result.segmentation.bounds(segment)
            stored = self._result.read(segment, ["prediction"])["prediction"]
            valid = np.ones(stop - start, bool)
            valid[self._result.masked(segment)] = False
            for low in range(0, stop - start, step):
                rows = slice(low, min(low + step, stop - start))
                block = self._block(start + low, valid[rows], stored[rows], part)
                if block is not None:
                    yield block

    def _block(self, first: int, valid: Array, stored: Floats, part: Part) -> Block | None:
        aim, count = self._aim, len(valid)
        groups = None if aim.groups is None else aim.groups(first, first + count)
        used = valid & self._of_part(first, count, groups, part)
        if not used.any():
            return None
        total = self._result.segmentation.rows
        buckets = buckets_of_rows(first, count, total) if groups is None else buckets_of_groups(groups)
        numbers = first + np.flatnonzero(used)
        raw = aim.labels(first, first + count)[used]
        targets = as_targets(raw, self._outputs, numbers, source=aim.source, ignore=aim.ignore)
        values = self._outputs.flat(stored[used])
        known: Array = ~np.isnan(targets) if self._outputs.kind == "values" else targets >= 0
        kept = known.reshape(len(targets), -1).any(1) & np.isfinite(values).reshape(len(values), -1).all(1)
        if not kept.any():
            return None
        return Block(numbers[kept], buckets[used][kept], values[kept], targets[kept], known[kept])

    def _of_part(self, first: int, count: int, groups: Array | None, part: Part) -> Array:
        """Return which rows are of a part."""
        aim = self._aim

        def shares(purpose: int) -> Doubles:
            number = self.purpose(purpose)
            return shares_of_rows(first, count, number) if groups is None else shares_of_groups(groups, number)

        held: Array = shares(_PART) < aim.holdout if aim.split is None else held_out(aim.split, first, count)
        if part == "judged":
            return np.ones(count, bool) if self.in_sample else held
        if aim.coverage is None or self._outputs.kind == "values":
            return ~held
        ranked: Array = shares(_RANKED) < 0.5
        return ~held & (ranked if part == "ranked" else ~ranked)


def held_out(split: Read, first: int, count: int) -> Array:
    """Return which of `count` rows from the number `first` on a column holds out: those that it says 0 of.

    Raises DataError where it says anything but 0 and 1.
    """
    values = split(first, first + count)
    fits = values.dtype.kind in "biuf" and values.ndim == 1
    wrong = ~np.isin(values, (0, 1)) if fits else np.ones(count, bool)
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        raise DataError(
            f"{option('split')}: row {first + row} is {values[row]}",
            "name a column of 1, where rows are fitted or chosen on, and 0, where they are judged on",
        )
    chosen: Array = values == 0
    return chosen
