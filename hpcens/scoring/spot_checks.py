"""Spot checks: a few rows of a run are computed in eager too, in the same precision, and held against the runtime's.

At most one row in two hundred, chosen by a hash, the first among the first hundredth of the segments. Far off on any
row, or off on one in a hundred, the run is void: no start goes on with what it scored.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from hpcens.engine import Engine
from hpcens.errors import DeviceOutOfMemory, MemberError
from hpcens.members import load
from hpcens.planning.phases import Assignment, Phase
from hpcens.runs import Finding, RunDirectory, SpotCheck, digest_of_fingerprint
from hpcens.runtimes.agreement import differences, spread_over_rows, tolerance_in
from hpcens.specs import MemberSpec
from hpcens.vocabulary import Array, Predict, Predicted, Rows

# One in so many rows, at most.
_ROWS_A_CHECKED_ROW = 200
# Rows of one check, where a row's output does not depend on the rows beside it.
_MOST_ROWS = 32
# Of the time that passes, what checks after the first may take.
_SHARE = 0.01
# How many times the tolerance is too far on any row; and on what part of the rows, of so many or more, the tolerance.
_FAR = 10
_PART = 0.01
_ROWS_OF_A_PART = 100


def is_checked(seed: str, segment: int, segments: int, checks: int) -> bool:
    """Return whether a segment is one of those that are checked, spread over all of them.

    seed    of the run
    checks  number of them in the whole run; the first lies in the first hundredth of the segments
    """
    if checks < 1:
        return False
    first = max(1, segments // 100)
    if segment < first:
        return segment == _draw(f"{seed} first", first)
    parts = min(checks - 1, segments - first)
    if parts < 1:
        return False
    part = (segment - first) * parts // (segments - first)
    low, high = (first + -(-(segments - first) * edge // parts) for edge in (part, part + 1))
    return segment == low + _draw(f"{seed} {part}", high - low)


def _draw(text: str, below: int) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") % below


@dataclass(frozen=True, slots=True)
class _Checked:
    """A member that is checked.

    rows    of one check
    checks  number of them in the whole run
    """

    member: MemberSpec
    runtime: str
    rows: int
    checks: int


class SpotChecks:
    """Those of one device. Each member is loaded for a check and let go: the plan has no room for a second copy."""

    def __init__(self, assignment: Assignment, run: RunDirectory, engine: Engine, cores: int) -> None:
        self._assignment = assignment
        whole = assignment.job.whole
        self._run = run if whole is None else RunDirectory.of(whole)
        self._engine = engine
        self._cores = cores
        self._members: dict[str, _Checked] = {}
        self._found: dict[str, SpotCheck] = {}
        self._fingerprint = ""
        self._segments = 0
        self._began = time.monotonic()
        self._spent = 0.0

    @property
    def found(self) -> tuple[SpotCheck, ...]:
        """What was checked so far, by member."""
        return tuple(self._found.values())

    def open(self, phase: Phase) -> None:
        """Check what is scored in this phase from now on."""
        assignment, segmentation = self._assignment, phase.form.segmentation
        self._fingerprint = digest_of_fingerprint(json.loads(phase.form.attributes["fingerprint"]))
        self._segments = len(segmentation)
        self._members = {}
        budget = segmentation.rows // _ROWS_A_CHECKED_ROW
        for member in assignment.job.spec.members:
            numerics = assignment.plan.numerics.members.get(member.name)
            if member.name not in phase.members or numerics is None or numerics.runtime == "eager":
                continue
            beside = assignment.preflight.unsteady.get(member.name, {}).keys() & {"alone", "other_batch"}
            rows = numerics.batch if beside else min(numerics.batch, _MOST_ROWS, budget)
            self._members[member.name] = _Checked(member, numerics.runtime, rows, budget // rows if rows else 0)

    def around(self, predict: Callable[[Predict], Iterator[Predicted]]) -> Callable[[Predict], Iterator[Predicted]]:
        """Return `predict` with checks: a prediction that is wrong is not handed on."""

        def checked(task: Predict) -> Iterator[Predicted]:
            for predicted in predict(task):
                self._look_at(task, predicted)
                yield predicted

        return checked

    def _look_at(self, task: Predict, predicted: Predicted) -> None:
        """Check a prediction where it is chosen, and as often as checks may cost.

        Raises MemberError where it is wrong, with the run made void.
        """
        checked = self._members.get(predicted.member)
        if checked is None or not is_checked(self._fingerprint, task.segment, self._segments, checked.checks):
            return
        began = time.monotonic()
        if predicted.member in self._found and self._spent > _SHARE * (began - self._began):
            return
        places = len(predicted.values) // predicted.batch or 1
        start = _draw(f"{self._fingerprint} {task.segment}", places) * predicted.batch
        rows = slice(start, start + checked.rows)
        reference = self._in_eager(checked.member, tuple(array[rows] for array in task.rows))
        if reference is not None:
            self._compare(checked, predicted.values, rows, reference)
        self._spent += time.monotonic() - began

    def _in_eager(self, member: MemberSpec, rows: Rows) -> Array | None:
        """Compute rows in eager; None where it does not fit beside what is held."""
        spec, preflight, hardware = self._assignment.job.spec, self._assignment.preflight, self._engine.hardware
        blank = self._assignment.shape if spec.bad_rows == "mask" else None
        engine = Engine(hardware, blank)
        build = partial(load, inputs=preflight.facts.names, space=preflight.space, cores=self._cores)
        try:
            engine.host(member.name, build(member, spec), batch=len(rows[0]))
            staged = [hardware.receive(hardware.stage(array)) for array in rows]
            values, used = engine.run(member.name, staged)
            return values if used == len(rows[0]) else None
        except DeviceOutOfMemory:
            return None
        except Exception as error:
            if hardware.out_of_memory(error):
                return None
            raise

    def _compare(self, checked: _Checked, values: Array, rows: slice, reference: Array) -> None:
        """Count rows that are off; make the run void where they are too far off, or too many."""
        spec, name = self._assignment.job.spec, checked.member.name
        probabilities = self._assignment.preflight.space == "probabilities"
        tolerance = tolerance_in(checked.member.computes_in, spec.plan.tolerance)
        apart = differences(values[rows], reference, probabilities=probabilities, scale=spread_over_rows(values))
        apart = np.full(len(reference), np.inf) if apart is None else apart
        before = self._found.get(name, SpotCheck(name, checked.runtime, 0, 0, 0.0, checked.member.computes_in))
        found = replace(
            before,
            rows=before.rows + len(apart),
            beyond=before.beyond + int((apart > tolerance).sum()),
            worst=max(before.worst, float(apart.max(initial=0.0))),
        )
        self._found[name] = found
        many = found.rows >= _ROWS_OF_A_PART and found.beyond >= _PART * found.rows
        if found.worst <= _FAR * tolerance and not many:
            return
        Finding(name, checked.runtime, self._fingerprint, found.worst).save(self._run.path)
        raise MemberError(
            f"runtime {checked.runtime} of member {name} gives wrong values: {found.worst:.2g} off eager on rows of the"
            f" run, {found.beyond} of {found.rows} checked rows beyond {_limit(checked.member, spec.plan.tolerance)}",
            f"run the same command again: what was scored is void, and all rows are scored without {checked.runtime}",
        )


def _limit(member: MemberSpec, tolerance: float) -> str:
    """Say how far off a row may be."""
    allowed = tolerance_in(member.computes_in, tolerance)
    if allowed == tolerance:
        return f"plan.tolerance, {tolerance:g}"
    return f"what rounding in {member.computes_in} explains, {allowed:.2g}"
