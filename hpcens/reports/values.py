"""Sum up the values of a result for a person: how often each label, the range of values, how far members agree.

Of a large result a sample of whole segments is read, spread evenly over the rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from hpcens.reports.text import figures
from hpcens.result import PRESENT, Finished
from hpcens.result.outputs import Output
from hpcens.shell import counted
from hpcens.vocabulary import Array

# Bytes of rows that are read at most, beyond one segment: a second or less of a file system's time.
_SAMPLE_BYTES = 64 << 20
_LABELS = 5
_COLUMNS = 6
_UNCERTAINTIES = ("disagreement", "entropy", "expected_entropy", "mutual_information", "variance")


@dataclass(frozen=True, slots=True)
class Sample:
    """Rows of a result that were read, without those that are masked.

    rows     of the result
    read     rows that were looked at
    masked   of those, how many are masked, and so are not in `arrays`
    outputs  name → what the result says of each dataset
    arrays   name → values, (rows, *row shape), in the unit that is meant: the scale of uint8 is applied
    classes  their names; empty where they have none
    """

    rows: int
    read: int
    masked: int
    outputs: Mapping[str, Output]
    arrays: Mapping[str, Array]
    classes: tuple[str, ...]

    @property
    def uncertainties(self) -> dict[str, Array]:
        """Return what is stored of uncertainty, by name."""
        return {name: self.arrays[name] for name in _UNCERTAINTIES if name in self.arrays}

    @property
    def members(self) -> dict[str, Array]:
        """Return the members' stored outputs, by member."""
        return {n.removeprefix("members/"): a for n, a in self.arrays.items() if n.startswith("members/")}

    @property
    def labels(self) -> Array | None:
        """Return the ensemble's label of each row: as stored, else that of the largest probability; None without any.

        Where classes do not exclude one another there is none.
        """
        if "label" in self.outputs:
            return self.arrays["label"] if self.outputs["label"].class_axis is None else None
        stored = self.outputs.get("prediction")
        if stored is None or stored.class_axis is None or not stored.attributes.get("sums_to_one"):
            return None
        return np.asarray(self.arrays["prediction"].argmax(stored.class_axis))

    def name_of(self, label: int) -> str:
        """Return the name of a class, else its number."""
        return self.classes[label] if 0 <= label < len(self.classes) else f"class {label}"


def sample(result: Finished) -> Sample:
    """Read some segments of a result, all where that is little. Raises DataError where they are damaged."""
    row_bytes = sum(output.row_bytes for output in result.outputs)
    segmentation = result.segmentation
    count = max(1, min(len(segmentation), _SAMPLE_BYTES // max(1, row_bytes * segmentation.segment_rows)))
    chosen = sorted({int(place) for place in np.linspace(0, len(segmentation) - 1, count)})
    chosen = chosen[: len(segmentation)]  # of a result that keeps no row there are none
    names = [output.name for output in result.outputs]
    parts = [result.read(segment, names) for segment in chosen]
    arrays = {output.name: np.zeros((0, *output.shape), output.dtype) for output in result.outputs}
    arrays |= {name: np.concatenate([part[name] for part in parts]) for name in names if parts}
    read = len(arrays[names[0]])
    valid = arrays.pop("valid", None)
    if valid is not None:
        arrays = {name: values[valid != 0] for name, values in arrays.items()}
    outputs = {output.name: output for output in result.outputs if output.name in arrays}
    return Sample(
        rows=segmentation.rows,
        read=read,
        masked=0 if valid is None else int((valid == 0).sum()),
        outputs=outputs,
        arrays={name: _as_meant(values, outputs[name]) for name, values in arrays.items()},
        classes=result.classes,
    )


def _as_meant(values: Array, output: Output) -> Array:
    scale = output.attributes.get("scale")
    return values if scale is None else values * np.float32(scale)


def value_lines(sample: Sample) -> Iterator[str]:
    """Show the labels or the range of values, how far the members agree, and of how many rows that is."""
    if sample.masked:
        masked = counted(sample.masked, "row that", "rows that")
        yield f"{masked} could not be scored: masked, and 0 in the dataset `valid`"
    if sample.read > sample.masked:
        yield from _prediction_lines(sample)
        if agreement := agreement_phrase(sample):
            yield agreement
    if sample.read < sample.rows:
        yield f"(values: of {sample.read:,} rows, spread over all {sample.rows:,})"


def label_counts(sample: Sample) -> dict[str, int]:
    """Return class → how often it is the ensemble's label, the most frequent first; empty where there are no labels."""
    labels = sample.labels
    if labels is None or not labels.size:
        return {}
    numbers, counts = np.unique(labels, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    return {sample.name_of(int(numbers[i])): int(counts[i]) for i in order}


def _prediction_lines(sample: Sample) -> Iterator[str]:
    counts = label_counts(sample)
    if counts:
        whole = sum(counts.values())
        shown = ", ".join(f"{name} {percent(count / whole)}" for name, count in list(counts.items())[:_LABELS])
        others = len(counts) - _LABELS
        more = f", {others:,} other{'s' if others > 1 else ''}" if others > 0 else ""
        yield f"labels: {shown}{more}"
        return
    if "label" in sample.outputs:  # a label of its own for each class
        shares = sample.arrays["label"].mean(tuple(a for a in range(sample.arrays["label"].ndim) if a != _axis(sample)))
        order = np.argsort(-shares, kind="stable")[:_LABELS]
        shown = ", ".join(f"{sample.name_of(int(i))} {percent(float(shares[i]))}" for i in order)
        yield f"labels, in what share of the rows: {shown}" + (", …" if len(shares) > _LABELS else "")
        return
    prediction = sample.arrays.get("prediction")
    if prediction is None or not prediction.size:
        return
    columns = prediction.reshape(len(prediction), -1)
    if 1 < columns.shape[1] <= _COLUMNS:
        for number in range(columns.shape[1]):
            name = sample.classes[number] if number < len(sample.classes) else f"value {number}"
            yield f"prediction, {name}: {range_phrase(columns[:, number])}"
    else:
        yield f"prediction: {range_phrase(columns)}"


def _axis(sample: Sample) -> int:
    return sample.outputs["label"].class_axis or -1


def range_phrase(values: Array) -> str:
    """Write the least, the largest, the mean and the spread of finite values, and how many are not finite."""
    finite = values[np.isfinite(values)].astype(np.float64)
    others = f"; {values.size - finite.size:,} of {values.size:,} are not finite" if finite.size < values.size else ""
    if not finite.size:
        return f"no finite value{others}"
    spread = float(finite.std())
    least, most, mean = (_near(float(x), spread) for x in (finite.min(), finite.max(), finite.mean()))
    return f"{least} to {most}, mean {mean}, standard deviation {spread:.3g}{others}"


def _near(value: float, spread: float) -> str:
    """Write a value with the digits that tell it from others of this spread: three at least."""
    digits = 3
    if spread > 0 and value:
        digits += max(0, int(np.log10(abs(value))) - int(np.floor(np.log10(spread))))
    return f"{value:.{min(digits, 9)}g}"


def agreement_phrase(sample: Sample) -> str:
    """Say how far the members agree, by what the result stores; empty where it stores nothing of that.

    Where members score rows of their own, it is those that several have scored that count.
    """
    if (present := sample.arrays.get(PRESENT)) is not None:
        several = present.sum(1) > 1
        if not several.any():
            return ""
        sample = replace(sample, arrays={name: values[several] for name, values in sample.arrays.items()})
    share = _label_agreement(sample)
    if share is not None:
        return f"members' agreement: {percent(share)} of their labels are the ensemble's"
    spread = _value_spread(sample)
    if spread is None:
        return ""
    return f"spread of the members: {figures(spread)} (standard deviation, root mean square of all rows)"


def _label_agreement(sample: Sample) -> float | None:
    """Return what share of the members' labels are the ensemble's; None where that is not known."""
    if (disagreement := sample.arrays.get("disagreement")) is not None:
        known = disagreement[np.isfinite(disagreement)]
        return 1.0 - float(known.mean()) if known.size else None
    labels, members = sample.labels, sample.members
    axes = {sample.outputs[f"members/{member}"].class_axis for member in members}
    if labels is None or len(members) < 2 or len(axes) != 1 or (axis := axes.pop()) is None:
        return None
    same = []
    for values in members.values():
        there = ~np.isnan(values.reshape(len(values), -1)).any(1)
        if there.any():
            same.append(float((values[there].argmax(axis) == labels[there]).mean()))
    return sum(same) / len(same) if same else None


def _value_spread(sample: Sample) -> float | None:
    """Return the members' standard deviation, as a root mean square over all values; None where it is not known."""
    if (variance := sample.arrays.get("variance")) is not None and np.isfinite(variance).any():
        return float(np.sqrt(np.nanmean(variance.astype(np.float64))))
    members = list(sample.members.values())
    if len(members) < 2:
        return None
    spread = np.nanvar if PRESENT in sample.arrays else np.var
    return float(np.sqrt(np.nanmean(spread(np.stack(members).astype(np.float64), axis=0))))


def percent(share: float) -> str:
    """Write a share in percent; what is neither none nor all never reads as if it were."""
    if 0 < share < 0.001:
        return "under 0.1 %"
    if 0.999 < share < 1:
        return "over 99.9 %"
    return f"{100 * share:.0f} %" if 0.1 <= share <= 0.99 or share in (0, 1) else f"{100 * share:.1f} %"
