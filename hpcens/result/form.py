"""The form of a result: its datasets, and all it says of itself. Plain HDF5 that any tool opens.

| dataset | shape | meaning |
| --- | --- | --- |
| `prediction`, `label`, `members/<name>`, … | (rows, …) | what the YAML asked for |
| `pass_entropy/<name>` | (rows, …) | beside `members/<name>` of a member with passes: their mean entropy |
| `columns/<name>` | (rows, …) | values that pass through from the dataset |
| `classes` | (classes,) text | class names, where given: the scale of every axis of classes |
| `row`, `class`, `best`, … | (their length,) | axes without values, as netCDF-4 has them: each axis has its own |
| `hpcens/written` | (segments,) uint8 | 1: the rows of this segment are real and durable |
| `hpcens/checksums` | (segments,) uint64 | XXH3 of the segment's bytes over all outputs, in their order |
| `hpcens/summary` | (65536,) uint8 | JSON written at the end: times, counts; padded with blanks |
| `hpcens/plan`, `hpcens/config` | bytes | the plan and the resolved configuration as JSON |

Datasets of rows say of themselves, where it applies:

| attribute | meaning |
| --- | --- |
| `description`, `units` | what they hold, in words |
| `space` | logits, probabilities or values |
| `class_axis` | axis of the classes, or of the K best of them, that of rows being 0; the classes' is labelled `class` |
| `sums_to_one` | whether a row of predicted probabilities adds up to 1 over the classes |
| `scale`, `scaled` | by what uint8 is to be multiplied |
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import h5py
import numpy as np

from hpcens.result.keeping import ROW_NUMBER, Keeping
from hpcens.result.outputs import Output
from hpcens.result.seal import seal_description
from hpcens.specs import CompressionSpec
from hpcens.vocabulary import Array, Segmentation

SUMMARY_BYTES = 1 << 16
_VALUELESS = "This is a netCDF dimension but not a netCDF variable."  # by which netCDF-4 knows such a scale


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """What the result looks like.

    attributes   attributes of the file, known when it is created
    classes      class names; empty where none are given
    documents    texts by name, kept below `hpcens/`
    compression  compression of the finished file; None: it is contiguous
    columns      writes the columns that pass through; None where there are none
    keep         which rows are kept; None: all, in their order
    columns_of   then writes the columns of the rows of these numbers; None where there are none
    """

    outputs: tuple[Output, ...]
    segmentation: Segmentation
    attributes: Mapping[str, Any]
    classes: tuple[str, ...] = ()
    documents: Mapping[str, str]
    compression: CompressionSpec | None = None
    columns: Callable[[h5py.File], None] | None = None
    keep: Keeping | None = None
    columns_of: Callable[[h5py.File, Array], None] | None = None

    @property
    def working(self) -> Form:
        """Return the form of the working file: of a result that keeps few rows it holds none."""
        return self if self.keep is None else replace(self, outputs=(), columns=None)

    def of_kept(self, rows: Array) -> Form:
        """Return the form of what is kept of it: the rows of these numbers."""
        segmentation = Segmentation(len(rows), self.segmentation.segment_rows)
        write = self.columns_of
        columns = None if write is None else lambda file: write(file, rows)
        outputs = (ROW_NUMBER, *self.outputs)
        return replace(self, outputs=outputs, segmentation=segmentation, columns=columns, keep=None)


def describe(file: h5py.File, form: Form) -> None:
    """Write what is known at the start, but for the datasets that hold rows."""
    for name, value in form.attributes.items():
        file.attrs[name] = value
    file.attrs["outputs"] = [output.name for output in form.outputs]
    file.attrs["segment_rows"] = form.segmentation.segment_rows
    for name, text in form.documents.items():
        file[f"hpcens/{name}"] = np.frombuffer(text.encode(), np.uint8)
    if form.classes:
        file.create_dataset("classes", data=list(form.classes), dtype=h5py.string_dtype())
        file["classes"].make_scale("classes")


def label_outputs(file: h5py.File, form: Form) -> None:
    """Write attributes and axes of the output datasets, which are there by now.

    Every axis has a scale: netCDF-4 takes no dataset of which one axis has and another has not.
    """
    for output in form.outputs:
        dataset = file[output.name]
        for name, value in output.attributes.items():
            dataset.attrs[name] = value
        dataset.dims[0].label = "row"
        if output.class_axis is not None:
            dataset.dims[output.class_axis].label = "class"
        for axis, size in enumerate(dataset.shape):
            name = _scale_name(output, axis, size, named=bool(form.classes))
            if name not in file:
                file.create_dataset(name, (size,), ">f4")  # takes no space
                file[name].make_scale(f"{_VALUELESS}{size:10d}")
            dataset.dims[axis].attach_scale(file[name])
    seal_description(file)


def _scale_name(output: Output, axis: int, size: int, *, named: bool) -> str:
    """Name the scale of an axis: no two of a dataset have one. named: whether classes have names."""
    if axis == 0:
        return "row"
    if axis == output.class_axis:
        return "classes" if named else "class"
    if axis == output.attributes.get("class_axis") and output.name.startswith("top_"):
        return "best"
    return f"axis_{axis}_of_{size}"
