"""From the stack of one segment to every dataset of the result; the same for a run and for `combine`."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from hpcens.combining.digests import rule_modules
from hpcens.combining.masking import fill_masked, mask, valid
from hpcens.combining.stacking import load_stack_rule
from hpcens.errors import HpcensError, RuleError
from hpcens.members import result_axis
from hpcens.result import PASS_ENTROPY, Output, encoded
from hpcens.rules import (
    Calibrator,
    Doubles,
    Floats,
    accepted,
    certainty,
    disagreement,
    entropies,
    label,
    labels,
    least_sure,
    make_rule,
    top,
    variance,
    weights_of,
)
from hpcens.rules.present import sets_of
from hpcens.specs import LAST, RunSpec, Space, StageSpec
from hpcens.usercode.imported import other_code
from hpcens.vocabulary import Array

_SPREADS = {"disagreement", "mutual_information"}


class Combiner:
    """Combine members' outputs by the rule of a job.

    space       in which the rule combines
    outputs     datasets that are wanted, from `outputs_of`
    digests     of the rule's code and weights, as they were when the run was checked
    class_axis  axis of the classes in the members' outputs, that of rows being 0; None where there is none
    Raises RuleError or MemberError where a rule of the user's own cannot be loaded.
    """

    def __init__(
        self,
        spec: RunSpec,
        space: Space,
        outputs: Sequence[Output],
        digests: Mapping[str, str],
        class_axis: int | None = None,
    ) -> None:
        self._spec = spec
        self._for = partial(Combiner, space=space, outputs=outputs, digests=digests, class_axis=class_axis)
        self._of_sets: dict[tuple[int, ...], Combiner] = {tuple(range(len(spec.members))): self}
        self._outputs = tuple(outputs)
        self._names = {output.name for output in outputs}
        self._members = spec.member_names
        self._dtypes = tuple(member.output_dtype for member in spec.members)
        self._weights = weights_of(spec.rule, spec.members)
        self._top = spec.output.top or 0
        self._logits = space == "logits"
        self._axis = LAST if class_axis is None else class_axis
        self._multilabel = spec.task == "multilabel"
        self._calibrator = (
            Calibrator(spec.calibration, logits=self._logits, axis=self._axis) if spec.calibration is not None else None
        )
        dtype = spec.combined_dtype
        self._rule = (
            load_stack_rule(spec.rule, space, spec.search_path, digests, dtype, task=spec.task, class_axis=self._axis)
            if spec.rule.name == "stack"
            else make_rule(spec.rule, spec.members, spec.search_path, digests.get("code"), dtype, axis=self._axis)
        )

    def combine(
        self,
        segment: int,
        stack: Sequence[Floats],
        masked: Sequence[int] = (),
        present: Array | None = None,
        pass_entropies: Mapping[str, Floats] | None = None,
    ) -> dict[str, Array]:
        """Combine one segment; return dataset name → rows as they are stored.

        segment  its number, for messages
        stack    in member order, each (rows, *output shape), in the dtype the member gives or as it was stored
        masked   places of rows that are not to be scored, whatever the stack holds there
        present  (rows, members) bool: whether the member scored the row, where not all score all; each row that is not
                 masked has one
        pass_entropies  member → mean entropy of its passes, (rows, …); of all that carry it
        Raises RuleError where the rule fails, DataError where a value does not fit its dtype; the segment is named.
        """
        try:
            given, passes = self._as_given(stack), dict(pass_entropies or {})
            if present is None:
                values = self._values(fill_masked(given, masked, self._axis), passes)
            else:
                values = self._values_of_sets(given, masked, present, passes)
            values["valid"] = valid(len(stack[0]), masked)
            blanked = [output for output in self._outputs if output.name != "valid"]
            stored = {output.name: encoded(values[output.name], output) for output in self._outputs}
            return stored | {output.name: mask(stored[output.name], output, masked) for output in blanked}
        except HpcensError as error:
            raise type(error)(f"segment {segment}: {error.what}", error.remedy) from error

    def _values_of_sets(
        self, stack: Sequence[Floats], masked: Sequence[int], present: Array, passes: Mapping[str, Floats]
    ) -> dict[str, Array]:
        """Combine the rows of each set of members as if the ensemble were those; rows that are masked are 0."""
        there = np.array(present, bool)
        there[list(masked)] = False
        values = self._of_members(stack, passes)
        values["present"] = there.astype(np.uint8)
        combined = [output for output in self._outputs if output.name not in (*values, "valid")]
        for members, rows in sets_of(there):
            own = {self._members[place] for place in members}
            of_rows = {member: array[rows] for member, array in passes.items() if member in own}
            part = self._of_set(members)._values([stack[place][rows] for place in members], of_rows)
            if len(members) == 1:  # which agrees with itself: nothing is known of a spread, but between its passes
                zero = _SPREADS - ({"mutual_information"} if of_rows else set())
                part |= {name: np.zeros_like(part[name]) for name in zero & part.keys()}
                part |= {name: np.full_like(part[name], np.nan) for name in {"variance"} & part.keys()}
            for output in combined:
                if output.name not in values:  # sets may differ in the dtype of floats
                    dtype = np.float64 if part[output.name].dtype.kind == "f" else part[output.name].dtype
                    values[output.name] = np.zeros((len(there), *output.shape), dtype)
                values[output.name][rows] = part[output.name]
        return {output.name: np.zeros((len(there), *output.shape), output.dtype) for output in combined} | values

    def sure(
        self,
        stage: StageSpec,
        stack: Mapping[str, Floats],
        present: Array,
        pass_entropies: Mapping[str, Floats] | None = None,
    ) -> Array:
        """Tell which rows a stage of the cascade accepts, by what the members so far have given: (rows,) bool.

        Parameters are those of `measured`.
        """
        sure = np.zeros(len(present), bool)
        for rows, measures, _ in self.measured(stage, stack, present, pass_entropies):
            sure[rows] = accepted(measures, stage.accept)
        return sure

    def measured(
        self,
        stage: StageSpec,
        stack: Mapping[str, Floats],
        present: Array,
        pass_entropies: Mapping[str, Floats] | None = None,
    ) -> Iterator[tuple[Array, dict[str, Doubles], Floats]]:
        """Yield places of rows, how sure the members so far are of each by the words of a stage, and their prediction.

        stack    member → (rows, *output shape), as it is stored; of members of later stages nothing is looked at
        present  (rows, members) bool: whether the member has scored the row; all False in rows that are not asked about
        pass_entropies  see `combine`
        """
        carried = pass_entropies or {}
        for members, rows in sets_of(present):
            names = [self._members[place] for place in members]
            passes = {place: carried[name][rows] for place, name in enumerate(names) if name in carried}
            values = self._as_given([stack[self._members[place]][rows] for place in members], members)
            yield rows, *self._of_set(members)._certainties(stage, values, passes)

    def _certainties(
        self, stage: StageSpec, stack: Sequence[Floats], passes: Mapping[int, Floats]
    ) -> tuple[dict[str, Doubles], Floats]:
        prediction = self._rule(stack)
        measure = partial(
            certainty, logits=self._logits, axis=self._axis, multilabel=self._multilabel, of_passes=passes
        )
        found = {name: measure(name, stack, prediction, self._weights) for name in stage.accept}
        return {name: least_sure(name, values) for name, values in found.items()}, prediction

    def _of_set(self, members: tuple[int, ...]) -> Combiner:
        """Return what combines these members alone, by their places in member order."""
        if members not in self._of_sets:
            alone = tuple(self._spec.members[place] for place in members)
            self._of_sets[members] = self._for(replace(self._spec, members=alone))
        return self._of_sets[members]

    def try_out(self, shape: tuple[int, ...], sets: Iterable[Sequence[str]] = ()) -> None:
        """Combine made-up outputs of this shape, so that a rule that cannot work fails before the first batch.

        sets  names of members, in member order, of which rows have no others
        """
        for names in sets:
            self._of_set(tuple(self._members.index(name) for name in names)).try_out(shape)
        made_up = np.random.default_rng(0).random((len(self._members), 3, *shape), np.float32)
        divided = shape and not self._logits and not self._multilabel
        axis = self._axis if self._axis < 0 else self._axis + 1  # that of the members comes first here
        self._rule(self._as_given(made_up / made_up.sum(axis=axis, keepdims=True) if divided else made_up))

    def _as_given(self, stack: Iterable[Floats], members: Sequence[int] | None = None) -> list[Floats]:
        """Return the stack as the members gave it: a result may store it wider, and a rule may tell the difference.

        members  places of the members that it is of; None: of all
        """
        dtypes = self._dtypes if members is None else [self._dtypes[place] for place in members]
        return [values.astype(dtype, copy=False) for values, dtype in zip(stack, dtypes, strict=True)]

    def _of_members(self, stack: Sequence[Floats], passes: Mapping[str, Floats]) -> dict[str, Array]:
        """Return what is stored of members, by its dataset."""
        values: dict[str, Array] = {f"members/{m}": array for m, array in zip(self._members, stack, strict=True)}
        return values | {f"{PASS_ENTROPY}{member}": array for member, array in passes.items()}

    def _values(self, stack: Sequence[Floats], passes: Mapping[str, Floats]) -> dict[str, Array]:
        names = self._names
        prediction = self._rule(stack)
        values = self._of_members(stack, passes)
        if (calibrator := self._calibrator) is not None:
            if "set" in names:
                values["set"] = calibrator.sets(prediction)
            if "interval" in names:
                values["interval"] = calibrator.intervals(prediction)
            prediction = calibrator.prediction(prediction)
        values["prediction"] = prediction
        if names & {"label", "disagreement"}:
            values["label"] = (
                labels(prediction, logits=self._logits) if self._multilabel else label(prediction, self._axis)
            )
        if "top_labels" in names:
            values["top_labels"], values["top_values"] = top(prediction, self._top, self._axis)
        if "variance" in names:
            values["variance"] = variance(stack)
        if names & {"entropy", "expected_entropy", "mutual_information"}:
            axis = None if self._multilabel else self._axis
            known = {self._members.index(member): array for member, array in passes.items()}
            split = entropies(stack, self._weights, logits=self._logits, axis=axis, of_passes=known)
            values["entropy"], values["expected_entropy"] = split.predictive, split.expected
            values["mutual_information"] = split.mutual_information
        if "disagreement" in names:
            values["disagreement"] = disagreement(stack, values["label"], self._axis)
        return values


def tried_combiner(
    spec: RunSpec,
    space: Space,
    outputs: Sequence[Output],
    digests: Mapping[str, str],
    shape: tuple[int, ...],
    class_axis: int | None = None,
) -> Combiner:
    """Return a Combiner that has combined made-up outputs, by the code that the digests name.

    shape       of one member's output for one row
    class_axis  of its classes; None: `result_axis` finds it
    Raises what `Combiner` raises, and RuleError where a rule of the user's own has imported other code.
    """
    before = frozenset(sys.modules)
    axis = result_axis(spec, shape, space) if class_axis is None else class_axis
    combiner = Combiner(spec, space, outputs, digests, axis)
    combiner.try_out(shape)
    if digests and (other := other_code(before, digests, rule_modules(spec, digests))):
        raise RuleError(f"rule {spec.rule.name}: {other} the run was checked", "run it again")
    return combiner
