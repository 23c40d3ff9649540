"""Layout: on which axis outputs have their classes, and what a member's output becomes of it. Pure.

Axes are counted as in the array, that of rows being 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Literal

from hpcens.errors import UsageError
from hpcens.specs import LAST, MemberSpec, RunSpec, Space

_OTHERS = "multilabel (a sigmoid each) or regression (values as they are)"


@dataclass(frozen=True, slots=True)
class Taken:
    """What a member's output is taken to be, and made of.

    axis        of its classes; None where it has none
    pair        whether its one value, of the second class, becomes two: [1 − p, p]
    activation  what makes probabilities of its logits, over the classes or of each label by itself; empty: nothing
    to          axis on which the ensemble has its classes
    """

    axis: int | None
    pair: bool = False
    activation: Literal["", "softmax", "sigmoid"] = ""
    to: int | None = None


def has_classes(spec: RunSpec, space: Space) -> bool:
    """Tell whether an axis of the outputs is that of classes. space: the one the rule combines in."""
    return space != "values" or spec.classes is not None


def stated_axis(member: MemberSpec, spec: RunSpec) -> int | None:
    """Return the axis of a member's classes, as the YAML says it; None where it does not."""
    return spec.class_axis if member.class_axis is None else member.class_axis


def common_axis(spec: RunSpec) -> int | None:
    """Return the axis to which all classes are brought; None: each stays where it is, which is where all have them."""
    own = any(member.class_axis is not None for member in spec.members)
    return LAST if spec.class_axis is None and own else spec.class_axis


def result_axis(spec: RunSpec, shape: Sequence[int], space: Space) -> int | None:
    """Return the axis of the classes in what the members are brought to; None where there are none.

    shape  of one row of it
    space  the one the rule combines in
    Raises UsageError where the YAML does not say, and the numbers of classes do not tell.
    """
    if not has_classes(spec, space) or not shape:
        return None
    axis = common_axis(spec)
    if axis is None:
        sizes = (2,) if spec.task == "binary" else (len(spec.classes),) if spec.classes is not None else ()
        return _found("the members give", spec, shape, sizes)
    return _counted("the members give", shape, axis)


def taken(member: MemberSpec, spec: RunSpec, shape: Sequence[int], space: Space) -> Taken:
    """Return what a member's output is taken to be.

    shape  of one row of it, as the module gives it
    space  the one the rule combines in
    Raises UsageError where the YAML does not say which axis has the classes, or it does not fit.
    """
    if spec.assumed and prod(shape) > 1:
        too = f"; of classes, their axis too: class_axis: {_axes(shape)}" if len(shape) > 1 else ""
        raise UsageError(
            f"member {member.name} gives {list(shape)} a row, and the YAML does not say what these are",
            f"add a line: task: multiclass (softmax over the classes), {_OTHERS}{too}",
        )
    if not has_classes(spec, space):
        return Taken(None)
    gives, binary = f"member {member.name} gives", spec.task == "binary"
    if not shape and not binary:
        return Taken(None)  # refused by who needs classes, in its own words
    stated = stated_axis(member, spec)
    if not shape:
        axis = 1
    elif stated is not None:
        axis = _counted(gives, shape, stated)
    else:
        sizes = (1, 2) if binary else tuple(len(names) for names in (member.classes or spec.classes,) if names)
        axis = _found(gives, spec, shape, sizes)
    pair = binary and (not shape or shape[axis - 1] == 1)
    if binary and not pair and shape[axis - 1] != 2:
        raise UsageError(
            f"{gives} {list(shape)} a row, {shape[axis - 1]} values on axis {axis}: task binary has one or two",
            "write task: multiclass where its classes exclude one another, multilabel where they do not",
        )
    activation: Literal["", "softmax", "sigmoid"] = ""
    if member.output == "logits" and space == "probabilities":
        activation = "sigmoid" if spec.task == "multilabel" or pair else "softmax"
    common = common_axis(spec)
    return Taken(axis, pair, activation, axis if common is None else _counted(gives, shape or (2,), common))


def layout_digests(member: MemberSpec, spec: RunSpec) -> dict[str, str]:
    """Return what of a member's layout is part of what it was made of; nothing where that is as in format 1."""
    own, common = stated_axis(member, spec), common_axis(spec)
    digests: dict[str, str] = {}
    if {own, common} - {None, LAST}:
        digests["class_axis"] = str(own) if own == common else f"{own} → {common}"
    if spec.task in ("binary", "multilabel"):
        digests["task"] = spec.task
    return digests


def describe_taken(member: MemberSpec, spec: RunSpec, shape: Sequence[int], space: Space) -> str:
    """Say what a member's output is taken to be: "logits (1000) → softmax over axis 1"."""
    how = taken(member, spec, shape, space)
    text = f"{member.output} ({', '.join(map(str, shape))})"
    if how.axis is None:
        return text
    if how.pair:
        text += f" → {'sigmoid p, ' if how.activation else ''}classes [1 − p, p] on axis {how.axis}"
    elif how.activation:
        text += f" → {how.activation}{f' over axis {how.axis}' if how.activation == 'softmax' else ' of each label'}"
    if not how.pair and how.activation != "softmax":
        text += f", {'labels' if spec.task == 'multilabel' else 'classes'} on axis {how.axis}"
    if member.classes is not None and spec.classes is not None:
        text += f", its {len(member.classes)} classes brought to the {len(spec.classes)} of the ensemble"
    moved = f", moved to axis {how.to}" if how.to != how.axis else ""
    mean = f", mean of {member.passes.count} passes" if member.passes is not None else ""
    return f"{text}{moved}{mean}"


def _counted(gives: str, shape: Sequence[int], axis: int) -> int:
    """Return an axis as a number from 1 on. Raises UsageError where a row has no such axis."""
    count = len(shape) + 1
    place = axis if axis > 0 else axis + count
    if not 1 <= place < count:
        raise UsageError(
            f"{gives} {list(shape)} a row, which has no axis {axis}",
            f"correct class_axis: {_axes(shape)}" if shape else "remove class_axis",
        )
    return place


def _found(gives: str, spec: RunSpec, shape: Sequence[int], sizes: Sequence[int]) -> int:
    """Return the axis that has the classes, by how many there are. sizes: their possible numbers; (): any."""
    if len(shape) == 1:
        return 1
    fitting = [axis for axis, size in enumerate(shape, 1) if size in sizes]
    if len(fitting) == 1:
        return fitting[0]
    if sizes and not fitting:
        wanted = " or ".join(map(str, sizes))
        raise UsageError(
            f"{gives} {list(shape)} a row: no axis has the {wanted} classes of the YAML",
            f"correct classes, or write where they are: class_axis: {_axes(shape)}",
        )
    raise UsageError(
        f"{gives} {list(shape)} a row: the YAML does not say which axis has the classes",
        f"write class_axis: {_axes(shape)}; or task: regression if these are no classes",
    )


def _axes(shape: Sequence[int]) -> str:
    """Name the axes of a row that may have the classes."""
    *others, last = [f"{axis} ({size} of them)" for axis, size in enumerate(shape, 1)]
    return " or ".join([*others, f"-1 (the last, {last.partition('(')[2]}"])
