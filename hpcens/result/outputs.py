"""Outputs: the datasets of a result, as the YAML names them, and how their values are stored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hpcens.errors import DataError, UsageError
from hpcens.specs import OF_CLASSES, RunSpec, Space
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
    classes     whether its last axis is that of the classes
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    attributes: Mapping[str, Any] = field(default_factory=dict)
    classes: bool = False

    @property
    def row_bytes(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64)) * np.dtype(self.dtype).itemsize


VALID = Output("valid", (), "|u1", {"description": "1; 0 where the row could not be scored and is masked"})


def outputs_of(spec: RunSpec, shape: tuple[int, ...], space: Space) -> tuple[Output, ...]:
    """Return the datasets of a result, in the order in which they are checksummed.

    shape  shape of one member's output for one row; the classes are its last axis
    space  the one the rule combines in
    Raises UsageError where the rule or a dataset needs classes and there are none, fewer than the K of top-K, or
    others than are named.
    """
    needing = [name for name in spec.output.datasets if _kind(name) in OF_CLASSES]
    needing += [f"rule {spec.rule.name}"] if spec.rule.name in ("vote", "geometric") else []
    if needing and (not shape or shape[-1] < 2):
        raise UsageError(
            f"{', '.join(needing)}: the members give {list(shape)} a row, so there are no classes to tell apart",
            "leave it out, or let the members give one value per class in their last axis",
        )
    if spec.classes is not None and (not shape or shape[-1] != len(spec.classes)):
        raise UsageError(
            f"{len(spec.classes)} classes are named, the members give {list(shape)} a row", "correct classes"
        )
    if spec.output.top and spec.output.top > shape[-1]:
        raise UsageError(f"top-{spec.output.top}: the members give {shape[-1]} classes", "ask for fewer")
    outputs = tuple(output for name in spec.output.datasets for output in _outputs(name, spec, shape, space))
    return (*outputs, VALID) if spec.bad_rows == "mask" else outputs


def _kind(name: str) -> str:
    return "top-K" if name.startswith("top-") else name


def _outputs(name: str, spec: RunSpec, shape: tuple[int, ...], space: Space) -> Sequence[Output]:
    dtype = _DTYPES[spec.output.dtype]
    full = _DTYPES["float64" if spec.output.dtype == "float64" else "float32"]
    classes = space != "values" and len(shape) > 0
    scaled = {"scale": 1 / _SCALE, "scaled": "values are these times the scale"} if spec.output.dtype == "uint8" else {}
    stored = {"space": space, **scaled}

    def floats(description: str, **more: Any) -> dict[str, Any]:
        return {"description": description, **stored, **more}

    match _kind(name):
        case "prediction":
            text = f"the members' outputs combined by rule {spec.rule.name}"
            return (Output("prediction", shape, dtype, floats(text), classes),)
        case "label":
            text = "index of the largest prediction along the last axis; a tie goes to the lowest"
            return (Output("label", shape[:-1], "<i4", {"description": text}),)
        case "top-K":
            best = (*shape[:-1], spec.output.top or 1)
            text = f"of the {best[-1]} largest predictions, the largest first; ties by index"
            return (
                Output("top_labels", best, "<i4", {"description": f"indices {text}"}),
                Output("top_values", best, dtype, floats(f"values {text}")),
            )
        case "members":
            return tuple(
                Output(f"members/{member}", shape, dtype, floats(f"output of member {member}"), classes)
                for member in spec.member_names
            )
        case "variance":
            return (Output("variance", shape, full, {"description": _DESCRIPTIONS[name], "space": space}, classes),)
    units = {"units": "1" if name == "disagreement" else "nat"}
    return (Output(name, shape[:-1], full, {"description": _DESCRIPTIONS[name], **units}),)


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
        return fitting
    if output.dtype == _DTYPES["uint8"]:
        whole = np.rint(values.astype(np.float64) * _SCALE)
        if not ((whole >= 0) & (whole <= _SCALE)).all():
            raise DataError(
                f"{output.name} holds {values.min():g} … {values.max():g}, but uint8 is for probabilities, 0 … 1",
                "output.dtype: float32",
            )
        return whole.astype(np.uint8)
    return values.astype(dtype)
