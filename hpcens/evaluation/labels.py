"""Labels as they are stored, brought to what predictions are held against: class indices, 0 and 1, or values. Pure."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from hpcens.errors import DataError, UsageError
from hpcens.shell import listed, option
from hpcens.vocabulary import Array

Kind = Literal["classes", "labels", "values"]


@dataclass(frozen=True, slots=True)
class Outputs:
    """What predictions are.

    kind     classes that exclude one another, labels that do not, or values
    shape    of one row of the prediction
    axis     of it that has the classes, rows being 0; None: it has none
    names    of the classes; empty where they have none
    """

    kind: Kind
    shape: tuple[int, ...]
    axis: int | None = None
    names: tuple[str, ...] = ()

    @property
    def classes(self) -> int:
        """How many classes, or labels, there are."""
        return self.shape[self.axis - 1] if self.axis is not None else 0

    @property
    def places(self) -> tuple[int, ...]:
        """Shape of a row without the axis of classes."""
        return self.shape if self.axis is None else (*self.shape[: self.axis - 1], *self.shape[self.axis :])

    @property
    def points(self) -> int:
        """How many points a row has, each with classes of its own."""
        return math.prod(self.places)

    def flat(self, values: Array) -> Array:
        """Bring rows of the shape of a prediction to (rows, points, classes), or of values to (rows, numbers)."""
        if self.axis is None:
            return np.ascontiguousarray(values.reshape(len(values), -1))
        moved = np.moveaxis(values, self.axis, -1)
        return np.ascontiguousarray(moved.reshape(len(values), -1, self.classes))

    def name(self, index: int) -> str:
        """Name a class."""
        return self.names[index] if self.names else str(index)


def as_targets(raw: Array, outputs: Outputs, numbers: Array, *, source: str, ignore: float | None) -> Array:
    """Return labels as what predictions are held against.

    raw      (rows, …) as stored
    numbers  of the rows, for messages
    source   where they come from, for messages
    ignore   value that stands for no label, NaN too; None: every label counts

    Of classes (rows, points) of indices, of labels (rows, points, labels) of 0 and 1, −1 where there is none; of values
    (rows, numbers) in float64, NaN where there is none.
    Raises DataError where they do not fit: shape, dtype, range, names, NaN.
    """
    labels = _as_numbers(raw, outputs, numbers, source)
    match outputs.kind:
        case "values":
            return _as_values(labels, outputs, numbers, source, ignore)
        case "labels":
            targets = outputs.flat(_of_shape(labels, [outputs.shape], source))
            return _as_integers(targets, 2, outputs, numbers, source, ignore)
    shapes = [outputs.places, *([(1,)] if not outputs.places else [])]
    if labels.shape[1:] == outputs.shape and labels.shape[1:] not in shapes:
        return _from_one_hot(outputs.flat(labels), outputs, numbers, source)
    targets = _of_shape(labels, [*shapes, outputs.shape], source).reshape(len(labels), -1)
    return _as_integers(targets, outputs.classes, outputs, numbers, source, ignore)


def _as_numbers(raw: Array, outputs: Outputs, numbers: Array, source: str) -> Array:
    """Return numbers; of names the indices of their classes."""
    if raw.dtype.kind in "biuf":
        return raw
    if raw.dtype.kind not in "OSU":
        raise DataError(f"labels {source} are {raw.dtype}", "labels are numbers, or names of classes")
    if not outputs.names or outputs.kind != "classes":
        raise DataError(
            f"labels {source} are text, and the result has no class names",
            "store indices of classes as labels, or name the classes and score again",
        )
    index = {name: number for number, name in enumerate(outputs.names)}
    texts = [v.decode(errors="backslashreplace") if isinstance(v, bytes) else str(v) for v in raw.reshape(-1)]
    wrong = next((place for place, text in enumerate(texts) if text not in index), None)
    if wrong is not None:
        row = numbers[wrong // (raw.size // len(raw))]
        raise DataError(
            f"labels {source}: row {row} is {texts[wrong]!r}, and the classes are {listed(outputs.names)}",
            "correct the labels; the class names of a result are in its dataset classes",
        )
    return np.array([index[text] for text in texts], np.int64).reshape(raw.shape)


def _of_shape(labels: Array, shapes: Sequence[tuple[int, ...]], source: str) -> Array:
    if labels.shape[1:] not in shapes:
        wanted = " or ".join(dict.fromkeys(str(list(shape)) for shape in shapes))
        raise DataError(
            f"labels {source} are {list(labels.shape[1:])} a row, and predictions need {wanted}",
            "name the dataset that holds the labels of what the members predict",
        )
    return labels


def _as_values(labels: Array, outputs: Outputs, numbers: Array, source: str, ignore: float | None) -> Array:
    scalar = [(), (1,)] if outputs.points == 1 else []
    values = _of_shape(labels, [outputs.shape, *scalar], source).reshape(len(labels), -1).astype(np.float64)
    if ignore is not None:
        values[np.isnan(values) if math.isnan(ignore) else values == ignore] = np.nan
    missing = ~np.isfinite(values)
    if ignore is not None:
        missing &= ~np.isnan(values)
    _refuse(missing, values, numbers, source, "is not finite")
    return values


def _as_integers(
    targets: Array, classes: int, outputs: Outputs, numbers: Array, source: str, ignore: float | None
) -> Array:
    ignored = np.zeros(targets.shape, bool)
    if ignore is not None:
        ignored = np.isnan(targets) if math.isnan(ignore) else targets == ignore
    if targets.dtype.kind == "f":
        _refuse(~ignored & ~np.isfinite(targets), targets, numbers, source, "is not finite")
        whole = np.where(ignored, 0, targets)
        _refuse(whole != np.floor(whole), targets, numbers, source, "is no index of a class")
    indices = np.where(ignored, 0, targets).astype(np.int64)
    meaning = "labels are 0 and 1" if outputs.kind == "labels" else f"there are {classes} classes, 0–{classes - 1}"
    _refuse((indices < 0) | (indices >= classes), targets, numbers, source, f"and {meaning}", bare=True)
    return np.where(ignored, -1, indices)


def _from_one_hot(flat: Array, outputs: Outputs, numbers: Array, source: str) -> Array:
    marks = (flat == 0) | (flat == 1)
    wrong = ~(marks.all(-1) & (flat.sum(-1) == 1))
    if wrong.any():
        row = numbers[np.flatnonzero(wrong.any(-1))[0]]
        raise DataError(
            f"labels {source}: row {row} has {outputs.classes} numbers that are not one 1 among 0",
            "labels of classes are indices, names, or one 1 a row",
        )
    return np.asarray(flat.argmax(-1), np.int64)


def _refuse(wrong: Array, values: Array, numbers: Array, source: str, why: str, *, bare: bool = False) -> None:
    if not wrong.any():
        return
    place = tuple(int(axis[0]) for axis in np.nonzero(wrong))
    count = int(wrong.sum())
    more = f" ({count} such of the rows looked at)" if count > 1 else ""
    fault = f"is {values[place]}, {why}" if bare else f"is {values[place]}: {why}"
    raise DataError(
        f"labels {source}: row {numbers[place[0]]} {fault}{more}",
        f"correct it, or name the value that stands for no label: {option('ignore', -1)}",
    )


def outputs_in(task: str, space: str, shape: tuple[int, ...], axis: int | None, names: tuple[str, ...]) -> Outputs:
    """Return what predictions are, by what a result says of itself. Raises UsageError where classes have no axis."""
    if task == "regression" or (space == "values" and axis is None):
        return Outputs("values", shape)
    if axis is None:
        raise UsageError(
            f"predictions are {list(shape)} a row of {space}, without an axis of classes",
            "say task and class_axis in the YAML, and score again",
        )
    return Outputs("labels" if task == "multilabel" else "classes", shape, axis, names)


def require_stored(path: Path, stored: Collection[str], names: Sequence[str]) -> None:
    """Raise UsageError where a result does not hold what is judged.

    stored  names of its datasets
    names   of members whose outputs are asked for
    """
    if "prediction" not in stored:
        raise UsageError(f"{path} does not hold its predictions", "score again with prediction among output.datasets")
    if missing := [name for name in names if f"members/{name}" not in stored]:
        raise UsageError(
            f"{path} does not hold the outputs of its members ({', '.join(missing)})",
            "score again with output.datasets: [prediction, members]; or judge the ensemble alone:"
            f" {option('ensemble_only', True)}",
        )
