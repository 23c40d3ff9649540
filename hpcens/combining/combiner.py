"""From the stack of one segment to every dataset of the result; the same for a run and for `combine`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from hpcens.combining.masking import fill_masked, mask, valid
from hpcens.combining.stacking import load_stack_rule
from hpcens.errors import HpcensError
from hpcens.result import Output, encoded
from hpcens.rules import Floats, disagreement, entropies, label, make_rule, top, variance, weights_of
from hpcens.specs import RunSpec, Space
from hpcens.vocabulary import Array


class Combiner:
    """Combine members' outputs by the rule of a job.

    space    in which the rule combines
    outputs  datasets that are wanted, from `outputs_of`
    digests  of the rule's code and weights, as they were when the run was checked
    Raises RuleError or MemberError where a rule of the user's own cannot be loaded.
    """

    def __init__(self, spec: RunSpec, space: Space, outputs: Sequence[Output], digests: Mapping[str, str]) -> None:
        self._outputs = tuple(outputs)
        self._names = {output.name for output in outputs}
        self._members = spec.member_names
        self._dtypes = tuple(member.output_dtype for member in spec.members)
        self._weights = weights_of(spec.rule, spec.members)
        self._top = spec.output.top or 0
        self._logits = space == "logits"
        self._rule = (
            load_stack_rule(spec.rule, space, spec.search_path, digests, spec.combined_dtype)
            if spec.rule.name == "stack"
            else make_rule(spec.rule, spec.members, spec.search_path, digests.get("code"), spec.combined_dtype)
        )

    def combine(self, segment: int, stack: Sequence[Floats], masked: Sequence[int] = ()) -> dict[str, Array]:
        """Combine one segment; return dataset name → rows as they are stored.

        segment  its number, for messages
        stack    in member order, each (rows, *output shape), in the dtype the member gives or as it was stored
        masked   places of rows that are not to be scored, whatever the stack holds there
        Raises RuleError where the rule fails, DataError where a value does not fit its dtype; the segment is named.
        """
        try:
            values = self._values(fill_masked(self._as_given(stack), masked))
            values["valid"] = valid(len(stack[0]), masked)
            blanked = [output for output in self._outputs if output.name != "valid"]
            stored = {output.name: encoded(values[output.name], output) for output in self._outputs}
            return stored | {output.name: mask(stored[output.name], output, masked) for output in blanked}
        except HpcensError as error:
            raise type(error)(f"segment {segment}: {error.what}", error.remedy) from error

    def try_out(self, shape: tuple[int, ...]) -> None:
        """Combine made-up outputs of this shape, so that a rule that cannot work fails before the first batch."""
        made_up = np.random.default_rng(0).random((len(self._members), 3, *shape), np.float32)
        self._rule(
            self._as_given(made_up / made_up.sum(axis=-1, keepdims=True) if shape and not self._logits else made_up)
        )

    def _as_given(self, stack: Iterable[Floats]) -> list[Floats]:
        """Return the stack as the members gave it: a result may store it wider, and a rule may tell the difference."""
        return [values.astype(dtype, copy=False) for values, dtype in zip(stack, self._dtypes, strict=True)]

    def _values(self, stack: Sequence[Floats]) -> dict[str, Array]:
        names = self._names
        prediction = self._rule(stack)
        values: dict[str, Array] = {f"members/{m}": array for m, array in zip(self._members, stack, strict=True)}
        values["prediction"] = prediction
        if names & {"label", "disagreement"}:
            values["label"] = label(prediction)
        if "top_labels" in names:
            values["top_labels"], values["top_values"] = top(prediction, self._top)
        if "variance" in names:
            values["variance"] = variance(stack)
        if names & {"entropy", "expected_entropy", "mutual_information"}:
            split = entropies(stack, self._weights, logits=self._logits)
            values["entropy"], values["expected_entropy"] = split.predictive, split.expected
            values["mutual_information"] = split.mutual_information
        if "disagreement" in names:
            values["disagreement"] = disagreement(stack, values["label"])
        return values
