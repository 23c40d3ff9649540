"""One dataset of a finished result as an array whose values are read when they are asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hpcens.vocabulary import Array


class StoredArray:
    """An array (rows, …) that lies in a result: indexed as an HDF5 dataset of h5py is, read by what is asked for.

    Scaled uint8 comes out as float32, multiplied by its scale; text as str.

    name        of the dataset, or of a column
    dataset     h5py's, or a `Field` of it; dataset_ndim: how many axes it has
    shape, dtype  of what comes out; dtype O: text
    dims        a name for each axis
    attributes  what the dataset says of itself
    labels      number → name, of an enumeration; those without a name come out as the number in text
    """

    def __init__(
        self,
        name: str,
        dataset: Any,
        dataset_ndim: int,
        *,
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        dims: Sequence[str],
        attributes: Mapping[str, Any],
        labels: Mapping[int, str] | None = None,
    ) -> None:
        self.name = name
        self._dataset = dataset
        self._dataset_ndim = dataset_ndim
        self.shape = shape
        self.dtype = dtype
        self.dims = tuple(dims)
        self.attributes = dict(attributes)
        self._labels = labels

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of values."""
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def description(self) -> str:
        """What the array holds, in words."""
        return str(self.attributes.get("description", ""))

    def labelled(self, name: str, labels: Mapping[int, str]) -> StoredArray:
        """Return the same array as text, under another name.

        labels  number → text
        """
        return StoredArray(
            name,
            self._dataset,
            self._dataset_ndim,
            shape=self.shape,
            dtype=np.dtype(object),
            dims=self.dims,
            attributes={},
            labels=labels,
        )

    def __getitem__(self, key: Any) -> Any:
        values = self._dataset[key] if self._dataset_ndim == self.ndim else self._of_each_row(key)
        if self.dtype.hasobject:
            return as_text(values, self._labels)
        scale = self.attributes.get("scale")
        return values if scale is None else np.float32(values * float(scale))

    def _of_each_row(self, key: Any) -> Any:
        """Index a field that holds an array in each row: HDF5 knows the rows alone."""
        rows, *rest = key if isinstance(key, tuple) and key else (key,)
        if rows is Ellipsis or not rest:
            return np.asarray(self._dataset[()])[key]
        values = np.asarray(self._dataset[rows])
        return values[tuple(rest)] if isinstance(rows, int | np.integer) else values[(slice(None), *rest)]

    def __len__(self) -> int:
        return self.shape[0]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        values: Array = np.asarray(self[()])
        return values if dtype is None else values.astype(dtype)

    def __repr__(self) -> str:
        axes = ", ".join(f"{dim}: {size}" for dim, size in zip(self.dims, self.shape, strict=True))
        kind = "text" if self.dtype.hasobject else self.dtype.name
        return f"<{self.name} ({axes}) {kind}{': ' * bool(self.description)}{self.description}>"


class Field:
    """A field of a compound dataset, perhaps one within another, indexed as the dataset is.

    dataset  h5py's
    names    of the fields, the outermost first; at least one
    """

    def __init__(self, dataset: Any, names: Sequence[str]) -> None:
        self._outermost = dataset.fields(names[0])
        self._within = tuple(names[1:])

    def __getitem__(self, key: Any) -> Any:
        values = self._outermost[key]
        for name in self._within:
            values = values[name]
        return values


def as_text(values: Any, labels: Mapping[int, str] | None = None) -> Any:
    """Return text as str, where it is not UTF-8 with escapes for what is wrong; of an enumeration the names.

    labels  number → name, of an enumeration; those without a name become text
    """

    def text(value: Any) -> str:
        if labels is not None:
            return labels.get(int(value), str(value))
        return str(value.decode(errors="backslashreplace"))

    if np.ndim(values) == 0:
        return text(values)
    return np.array([text(value) for value in np.asarray(values).reshape(-1)], object).reshape(np.shape(values))
