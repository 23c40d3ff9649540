"""Outputs: the datasets of a result, as the YAML names them, and how their values are stored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np

from hpcens.errors import DataError, UsageError
from hpcens.members import result_axis
from hpcens.specs import NORMALIZED, NOT_MULTILABEL, OF_CLASSES, OF_ENTROPY, Calibration, MemberSpec, RunSpec, Space
from hpcens.vocabulary import Array

_SCALE = 255
_DTYPES = {"float32": "<f4", "float16": "<f2", "uint8": "|u1", "float64": "<f8"}
_DESCRIPTIONS = {
    "variance": "population variance over the members, element by element",
    "entropy": "entropy of the members' mean probabilities",
    "expected_entropy": "mean entropy of the members' probabilities",
    "mutual_information": "entropy − expected_entropy",
    "disagreement": "share of the members whose label is not the ensemble's",
}


@dataclass(frozen=True, slots=True)
class Output:
    """One dataset of the result.

    name        its HDF5 name
    shape       shape of one row
    dtype       as numpy spells it, with the byte order
    attributes  what it says of itself
    class_axis  axis that has the classes, that of rows being 0; None where there is none
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    attributes: Mapping[str, Any] = field(default_factory=dict)
    class_axis: int | None = None

    @property
    def row_bytes(self) -> int:
        """Bytes of one row of this output."""
        return int(np.prod(self.shape, dtype=np.int64)) * np.dtype(self.dtype).itemsize


PASS_ENTROPY = "pass_entropy/"
"""With what names begin of the entropies that members with passes carry, stored beside their outputs."""
PRESENT = "present"
VALID = Output("valid", (), "|u1", {"description": "1; 0 where the row could not be scored and is masked"})


def outputs_of(
    spec: RunSpec, shape: tuple[int, ...], space: Space, class_axis: int | None = None
) -> tuple[Output, ...]:
    """Return the datasets of a result, in the order in which they are checksummed.

    shape       shape of one member's output for one row, as it is combined
    space       the one the rule combines in
    class_axis  axis of its classes; None: `result_axis` finds it
    Raises UsageError where the rule or a dataset needs classes and there are none, fewer than the K of top-K, or
    others than are named.
    """
    axis = result_axis(spec, shape, space) if class_axis is None else class_axis
    classes = shape[axis - 1] if axis is not None else 0
    choosing = [name for name in spec.output.datasets if _kind(name) in OF_CLASSES]
    choosing += [f"cascade: {name}" for stage in spec.cascade for name in stage.accept if name != "variance"]
    choosing += [f"rule {spec.rule.name}"] if spec.rule.name in ("vote", "geometric") else []
    if choosing and classes < (1 if spec.task == "multilabel" else 2):
        raise UsageError(
            f"{', '.join(choosing)}: the members give {list(shape)} a row, so there are no classes to tell apart",
            "leave it out, or let the members give one value per class on one axis",
        )
    if spec.classes is not None and classes != len(spec.classes):
        where = f", {classes} of them on axis {axis}, which has the classes" if len(shape) > 1 else ""
        raise UsageError(
            f"{len(spec.classes)} classes are named, the members give {list(shape)} a row{where}",
            "correct classes" + (", or class_axis" if where else ""),
        )
    if spec.output.top and spec.output.top > classes:
        raise UsageError(f"top-{spec.output.top}: the members give {classes} classes", "ask for fewer")
    if spec.task == "multilabel" and (wrong := [n for n in spec.output.datasets if _kind(n) in NOT_MULTILABEL]):
        raise UsageError(
            f"{', '.join(wrong)}: chosen between classes that exclude one another, and the task is multilabel",
            "leave it out of output.datasets",
        )
    _check_thresholds(spec, shape)
    _check_passes(spec, space)
    outputs = tuple(output for name in spec.output.datasets for output in _outputs(name, spec, shape, space, axis))
    if spec.partial:
        text = "1 where the member has an output for the row, else 0; members in the order of member_names"
        outputs = (*outputs, Output(PRESENT, (len(spec.members),), "|u1", {"description": text}))
    return (*outputs, VALID) if spec.bad_rows == "mask" else outputs


def _check_passes(spec: RunSpec, space: Space) -> None:
    """Raise UsageError where entropies are asked for, and members with passes do not carry them."""
    drawn = [member.name for member in spec.members if member.passes is not None]
    entropies = [name for name in spec.output.datasets if name in OF_ENTROPY]
    if drawn and entropies and space == "logits":
        raise UsageError(
            f"{', '.join(entropies)}: member {drawn[0]} has passes, whose entropies are those of probabilities, and"
            " rule.space is logits",
            "remove rule.space, or leave it out of output.datasets",
        )


def _check_thresholds(spec: RunSpec, shape: tuple[int, ...]) -> None:
    calibration = spec.calibration
    if calibration is None or calibration.covering != "interval":
        return
    count = len(calibration.thresholds)
    if count not in (1, prod(shape)):
        raise UsageError(
            f"{calibration.path} has intervals of {count} numbers a row, and the members give {list(shape)}",
            "name the calibration of these members, or remove it",
        )


def _kind(name: str) -> str:
    return "top-K" if name.startswith("top-") else name


def _outputs(name: str, spec: RunSpec, shape: tuple[int, ...], space: Space, axis: int | None) -> Sequence[Output]:
    dtype = _DTYPES[spec.output.dtype]
    full = _DTYPES["float64" if spec.output.dtype == "float64" else "float32"]
    multilabel = spec.task == "multilabel"
    place = {} if axis is None else {"class_axis": axis}
    scaled = {"scale": 1 / _SCALE, "scaled": "values are these times the scale"} if spec.output.dtype == "uint8" else {}
    stored = {"space": space, **place, **scaled}
    calibration = spec.calibration
    tempered = calibration is not None and calibration.temperature is not None
    raw = ", before calibration" if tempered else ""
    # shape of what is stored once for all classes, or once for each label
    chosen = shape if axis is None or multilabel else (*shape[: axis - 1], *shape[axis:])

    def floats(description: str, **more: Any) -> dict[str, Any]:
        return {"description": description, **stored, **more}

    def of_rows(of: str, dtype: str, description: str, **more: Any) -> Sequence[Output]:
        attributes = {"description": description, **more, **(place if multilabel else {})}
        return (Output(of, chosen, dtype, attributes, axis if multilabel else None),)

    match _kind(name):
        case "prediction":
            text = f"the members' outputs combined by rule {spec.rule.name}"
            if calibration is not None and tempered:
                text += f", calibrated at temperature {calibration.temperature:.6g}"
            if space == "probabilities" and not multilabel:
                whole = tempered or spec.rule.normalize or spec.rule.name in NORMALIZED
                text += "; they add up to 1 over the classes" if whole else "; they need not add up to 1"
                return (Output("prediction", shape, dtype, floats(text, sums_to_one=whole), axis),)
            return (Output("prediction", shape, dtype, floats(text), axis),)
        case "label":
            if multilabel:
                return of_rows("label", "<i4", "1 where the prediction of a label is above 0.5, else 0")
            where = "the last axis" if axis == len(shape) else f"axis {axis}"
            return of_rows("label", "<i4", f"index of the largest prediction along {where}; a tie goes to the lowest")
        case "top-K":
            assert axis is not None, "outputs of classes have an axis of them"
            best = (*shape[: axis - 1], spec.output.top or 1, *shape[axis:])
            text = f"of the {spec.output.top} largest predictions, the largest first; ties by index"
            return (
                Output("top_labels", best, "<i4", {"description": f"indices {text}", **place}),
                Output("top_values", best, dtype, floats(f"values {text}")),
            )
        case "members":
            of_members = tuple(
                Output(f"members/{m.name}", shape, dtype, floats(f"{_output_of(m)}{raw}"), axis) for m in spec.members
            )
            return (*of_members, *pass_entropies(spec, shape, space, axis))
        case "variance":
            described = {"description": f"{_DESCRIPTIONS[name]}{raw}", "space": space, **place}
            return (Output("variance", shape, full, described, axis),)
        case "set":
            text = f"1 for each class of a set that is to hold the true one in {_promise(calibration)}"
            return (Output("set", shape, "|u1", {"description": text, **place}, axis),)
        case "interval":
            text = f"lower and upper end of an interval that is to hold the true value in {_promise(calibration)}"
            return (Output("interval", (*shape, 2), dtype, {"description": text, "space": space}),)
    of_each = (" of each label" if multilabel else "") + (raw if name != "disagreement" else "")
    units = {"units": "1" if name == "disagreement" else "nat"}
    return of_rows(name, full, f"{_DESCRIPTIONS[name]}{of_each}", **units)


def _output_of(member: MemberSpec) -> str:
    mean = f", mean of {member.passes.count} passes" if member.passes is not None else ""
    return f"output of member {member.name}{mean}"


def pass_entropies(
    spec: RunSpec, shape: tuple[int, ...], space: Space, class_axis: int | None = None
) -> tuple[Output, ...]:
    """Return the datasets of what members with passes carry beside their outputs: see `members.carried`.

    shape, space, class_axis  see `outputs_of`
    """
    axis = result_axis(spec, shape, space) if class_axis is None else class_axis
    labels = spec.task == "multilabel"
    each = " of each label" if labels else ""
    found = []
    for member in spec.members:
        if member.passes is None or space != "probabilities" or axis is None:
            continue
        text = f"mean entropy{each} of the {member.passes.count} passes of member {member.name}, before any calibration"
        attributes = {"description": text, "units": "nat", **({"class_axis": axis} if labels else {})}
        chosen = shape if labels else (*shape[: axis - 1], *shape[axis:])
        wide = "float64" in (member.output_dtype, spec.output.dtype)
        place = axis if labels else None
        found.append(Output(f"{PASS_ENTROPY}{member.name}", chosen, "<f8" if wide else "<f4", attributes, place))
    return tuple(found)


def _promise(calibration: Calibration | None) -> str:
    coverage = calibration.coverage if calibration is not None else None
    return f"{100 * (coverage or 0):.6g} % of rows like those it was calibrated on"


def encoded(values: Array, output: Output) -> Array:
    """Convert values, (rows, *row shape), to what the dataset stores; floats and uint8 round to nearest.

    Raises DataError where a value lies outside of what the dtype can hold.
    """
    dtype = np.dtype(output.dtype)
    if values.dtype == dtype:
        return values
    if dtype.kind == "f":
        with np.errstate(over="ignore"):
            fitting = values.astype(dtype)
        if (np.isinf(fitting) & np.isfinite(values)).any():
            largest, limit = np.abs(values).max(), float(np.finfo(dtype).max)
            raise DataError(
                f"{output.name} holds ±{largest:g}, beyond {dtype.name} ({limit:g})",
                "write output.dtype: float32, or float64 if it is that; or scale the members' outputs",
            )
        return _outward(values, fitting) if output.name == "interval" else fitting
    if output.dtype == _DTYPES["uint8"]:
        whole = np.rint(values.astype(np.float64) * _SCALE)
        if not ((whole >= 0) & (whole <= _SCALE)).all():
            raise DataError(
                f"{output.name} holds {values.min():g} … {values.max():g}, but uint8 is for probabilities, 0 … 1",
                "output.dtype: float32",
            )
        return whole.astype(np.uint8)
    return values.astype(dtype)


def _outward(ends: Array, rounded: Array) -> Array:
    """Return intervals that were rounded, (…, 2), so that none is narrower than it was."""
    lower, upper = rounded[..., 0], rounded[..., 1]
    lower = np.where(lower > ends[..., 0], np.nextafter(lower, lower.dtype.type(-np.inf)), lower)
    upper = np.where(upper < ends[..., 1], np.nextafter(upper, upper.dtype.type(np.inf)), upper)
    return np.stack([lower, upper], axis=-1)
