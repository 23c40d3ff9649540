"""Conversion: from what a module gives to the ensemble's probabilities, classes and axis of classes."""

from __future__ import annotations

import torch

from hpcens.errors import MemberError, UsageError
from hpcens.members.carried import Carried, carried_of
from hpcens.members.layout import Taken, taken
from hpcens.specs import MemberSpec, RunSpec, Space, class_rounds


class Conversion(torch.nn.Module):
    """One logit to two classes, softmax or sigmoid, the ensemble's classes, its axis; each where due, in turn."""

    def __init__(self, member: MemberSpec, spec: RunSpec, space: Space) -> None:
        """Convert what a member gives. space: the one the rule combines in."""
        super().__init__()
        self._rounds: torch.Tensor | None
        self._member = member
        self._spec = spec
        self._space = space
        self._by_shape: dict[tuple[int, ...], Taken] = {}
        mapped = member.classes is not None and spec.classes is not None
        rounds = class_rounds(member.classes or {}, spec.classes or ()) if mapped else None
        self.register_buffer("_rounds", None if rounds is None else torch.tensor(rounds), persistent=False)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Return the output as the ensemble has it. values: (batch, *output shape), as the module gives it.

        Raises UsageError where the YAML does not say what it is, MemberError where it is not what the YAML says.
        """
        how = self._taken(values)
        if how.axis is None:
            self._require_classes(values, how)
            return values
        if how.pair:
            values = self._two_classes(values if values.dim() > 1 else values.unsqueeze(1), how)
        elif how.activation == "softmax":
            values = torch.softmax(self._require_classes(values, how), how.axis - values.dim())
        elif how.activation == "sigmoid":
            values = torch.sigmoid(values)
        axis = how.axis
        if self._rounds is not None:
            values, axis = self._mapped(values.movedim(axis, -1), self._rounds), values.dim() - 1
        return values if axis == how.to else values.movedim(axis, how.to or axis).contiguous()

    def carried(self, shape: tuple[int, ...]) -> Carried | None:
        """Return where a member's entropies lie beside its output; None where it has none. shape: of a row of it.

        Raises UsageError where its passes are of values, which have no entropy.
        """
        where = carried_of(self._member, self._spec, shape, self._space)
        if where is None and self._space != "logits":
            raise UsageError(
                f"member {self._member.name} has passes and gives {list(shape)} a row, which are no classes",
                "remove members[].passes: they are for members that classify so far",
            )
        return where

    def axis_in(self, values: torch.Tensor) -> int | None:
        """Return the axis of what the module gives that has the classes; None where none has."""
        return self._taken(values).axis

    @property
    def space(self) -> Space:
        """The space that it brings values to."""
        return self._space

    def _taken(self, values: torch.Tensor) -> Taken:
        shape = tuple(values.shape[1:])
        if shape not in self._by_shape:
            self._by_shape[shape] = taken(self._member, self._spec, shape, self._space)
        return self._by_shape[shape]

    def _two_classes(self, value: torch.Tensor, how: Taken) -> torch.Tensor:
        """Return [1 − p, p] of p or of its logit; of a logit that stays one, [0, logit], whose softmax that is."""
        assert how.axis is not None, "a pair has an axis"
        if how.activation:
            return torch.cat([torch.sigmoid(-value), torch.sigmoid(value)], how.axis)
        other = torch.zeros_like(value) if self._member.output == "logits" else 1 - value
        return torch.cat([other, value], how.axis)

    def _require_classes(self, values: torch.Tensor, how: Taken) -> torch.Tensor:
        """Raise where a softmax is due, and there are no two classes to take it over.

        UsageError where the YAML says of no output what it is, else MemberError.
        """
        due = self._member.output == "logits" and self._space == "probabilities"
        if due and (how.axis is None or values.shape[how.axis] < 2):
            if self._spec.assumed:
                raise UsageError(
                    f"member {self._member.name} gives {list(values.shape[1:])} a row, and the YAML does not say what"
                    " these are",
                    "add a line: task: regression if it is a value as it is, binary if it is the one logit of two"
                    " classes",
                )
            raise MemberError(
                f"member {self._member.name} returned {tuple(values.shape)}: logits of {len(values)} rows need an axis"
                " of two classes or more to become probabilities",
                "write task: binary in the YAML if that is the one logit of two classes, task: regression if it is a"
                " value; or give it output: probabilities",
            )
        return values

    def _mapped(self, values: torch.Tensor, rounds: torch.Tensor) -> torch.Tensor:
        """Bring the last axis, of the member's classes, to the ensemble's.

        Always added in one order, which index_add on a GPU would not.
        """
        own = self._member.classes or {}
        if values.shape[-1] != len(own):
            raise MemberError(
                f"member {self._member.name} returned {values.shape[-1]} classes, and its classes name {len(own)}",
                "correct members[].classes in the YAML: one for each class that it gives, in its order",
            )
        padded = torch.nn.functional.pad(values, (0, 1))
        first, *others = rounds.unbind()
        total = padded[..., first]
        for places in others:
            total = total + padded[..., places]
        return total
