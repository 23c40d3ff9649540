"""Steadiness: whether a member gives a row the same output each time, alone and beside others, in any batch.

Compared by value, of outputs as the rule takes them. What it finds of a member is held by three figures: of two equal
calls, of a row alone, of another batch size. The first beyond the tolerance is chance, and is refused; within it, but
with other bits, the member is not reproducible. The others are warnings, and are said in the result.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from hpcens.errors import MemberError
from hpcens.runtimes.agreement import difference, spread_over_rows, tolerance_in
from hpcens.specs import MemberSpec
from hpcens.vocabulary import Array, Rows

if TYPE_CHECKING:
    from hpcens.engine import Engine


# Seconds before a member that gave other bits is called once more.
_SECONDS_BETWEEN = 0.3


@dataclass(frozen=True, slots=True)
class Steadiness:
    """How far a member's outputs for the same row lie apart, see `runtimes.agreement`.

    again         of equal calls
    same_bits     whether equal calls gave the same bits
    alone         of a row alone and beside another; None where a single row could not be run
    other_batch   of a row in batches of different sizes; None where none could be run
    """

    again: float = 0.0
    same_bits: bool = True
    alone: float | None = 0.0
    other_batch: float | None = 0.0

    def faults(self, precision: str, tolerance: float) -> Mapping[str, float | bool]:
        """Return what is to be known by who reads the result; nothing where the member is steady.

        tolerance  `plan.tolerance`
        """
        limit = tolerance_in(precision, tolerance)
        found: dict[str, float | bool] = {}
        if not self.same_bits:
            found["reproducible"] = False
        if self.alone is not None and self.alone > limit:
            found["alone"] = self.alone
        if self.other_batch is not None and self.other_batch > limit:
            found["other_batch"] = self.other_batch
        return found


def examine(
    engine: Engine, member: MemberSpec, rows: Rows, others: Rows, values: Array, *, probabilities: bool
) -> Steadiness:
    """Run a hosted member on the same rows in several ways. What cannot be run is left out.

    Of a member with passes only equal calls are compared, which draw the same: in another batch it draws other numbers.

    rows    (rows, *row shape) of each input
    others  other rows of the dataset; may be none
    values  what the member gave for the rows before
    """
    run = _Runs(engine, member.name)
    drawn = member.passes is not None
    others = () if drawn else others
    joined = tuple(np.concatenate(pair) for pair in zip(rows, others, strict=True)) if others else ()
    whole = run.on(joined) if joined else None
    scale = spread_over_rows(values if whole is None else whole)

    def apart(left: Array, right: Array) -> float:
        return difference(left, right, probabilities=probabilities, scale=scale)

    alone = [] if drawn else [run.on(tuple(x[row : row + 1] for x in rows)) for row in range(len(values))]
    singles = [single for single in alone if single is not None]
    repeats = [repeat for repeat in (run.on(rows), run.on(rows)) if repeat is not None]
    same_bits = all(repeat.tobytes() == values.tobytes() for repeat in repeats)
    if not same_bits:
        time.sleep(_SECONDS_BETWEEN)  # where it depends on the time, it is further off by then
        repeats += [repeat for repeat in (run.on(rows),) if repeat is not None]
    return Steadiness(
        again=max((apart(repeat, values) for repeat in repeats), default=0.0),
        same_bits=same_bits,
        alone=apart(np.concatenate(singles), values) if len(singles) == len(values) > 1 else None,
        other_batch=apart(whole[: len(values)], values) if whole is not None else None,
    )


def require_no_chance(member: MemberSpec, steadiness: Steadiness, tolerance: float) -> None:
    """Raise MemberError where two equal calls lie further apart than the tolerance."""
    if steadiness.again > tolerance_in(member.computes_in, tolerance):
        raise chance(member, steadiness.again, tolerance)


def chance(member: MemberSpec, apart: float, tolerance: float) -> MemberError:
    """Return the error of a member whose outputs for the same rows lie apart by more than the tolerance."""
    if member.passes is not None:
        return MemberError(
            f"member {member.name} draws other values in the same passes over the same rows: they lie {apart:.2g}"
            f" apart, and plan.tolerance is {tolerance:g}",
            "let it draw from the generators of torch, numpy and Python that all share, which are seeded for each pass,"
            " and keep no state from call to call",
        )
    meant = "; or, where chance is meant, write how often it is run and averaged: passes: 20"
    meant = meant if member.source in ("factory", "pickled") and member.output != "values" else ""
    return MemberError(
        f"member {member.name} gives other values each time it is called with the same rows: they lie {apart:.2g}"
        f" apart, and plan.tolerance is {tolerance:g}",
        "it must not depend on chance, time or earlier calls: export it in eval() mode, write"
        " dropout(…, training=self.training), and keep no state from call to call" + meant,
    )


def steadiness_warnings(member: MemberSpec, steadiness: Steadiness, tolerance: float) -> Iterator[str]:
    """Yield what is no fault, but changes what the numbers mean."""
    found = steadiness.faults(member.computes_in, tolerance)
    if "reproducible" in found:
        yield (
            f"member {member.name} gives other bits each time, {steadiness.again:.2g} apart and within plan.tolerance:"
            " its outputs are not promised to be the same in another run"
        )
    if "alone" in found:
        yield (
            f"member {member.name} gives a row alone another output than beside another row, {found['alone']:.2g}"
            " apart: it depends on the rows it is batched with; look for batch norm in train mode, or sums over rows"
        )
    if "other_batch" in found:
        yield (
            f"member {member.name} gives a row another output in a larger batch, {found['other_batch']:.2g} apart:"
            " it depends on the rows it is batched with, and its outputs on plan.batch_sizes"
        )


@dataclass(frozen=True, slots=True)
class _Runs:
    engine: Engine
    name: str

    def on(self, rows: Rows) -> Array | None:
        """Return the outputs for rows in one batch; None where they cannot be run.

        Rows other than those tried may be bad, and a batch of another size may not fit the member.
        """
        try:
            hardware = self.engine.hardware
            return self.engine.run(self.name, [hardware.receive(hardware.stage(array)) for array in rows])[0]
        except Exception:
            return None
