"""Types: what numpy makes of the types of datasets and attributes, and in words what it has no type for.

HDF5 has times, and floats and integers of any width: who meets one can say so, and read what lies beside it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import h5py
import numpy as np
from h5py import h5t

from hpcens.errors import DataError
from hpcens.vocabulary import Array

# Of images whose values are not scaled: the shortest side, what some pixel reaches, and what none exceeds.
_SIDE, _BRIGHT, _WHITE = 8, 128, 255

_UNKNOWN = (TypeError, ValueError, NotImplementedError)
_OF_NUMPY = b"NUMPY:"  # with which h5py tags its datetimes
_REMEDY = "store it as a type that numpy has, or name another"


def dtype_of(dataset: h5py.Dataset) -> np.dtype[Any]:
    """Return a dataset's dtype; of a compound it has those fields, in their places, that numpy has types for.

    Raises DataError where numpy has none for it.
    """
    kind = dataset.id.get_type()
    try:
        return _dtype(kind)
    except _UNKNOWN:
        fields = _fields(kind)
        if not fields:
            raise without_type(f"{dataset.file.filename}: {dataset.name}", _described(kind)) from None
        names, formats, offsets = zip(*((name, dtype, at) for name, (dtype, at) in fields.items()), strict=True)
        return np.dtype({"names": names, "formats": formats, "offsets": offsets, "itemsize": kind.get_size()})


def untyped_fields(dataset: h5py.Dataset) -> Mapping[str, str]:
    """Return the fields of a compound that numpy has no types for, with what they hold in words."""
    kind = dataset.id.get_type()
    if not isinstance(kind, h5t.TypeCompoundID):
        return {}
    names = [kind.get_member_name(i) for i in range(kind.get_nmembers())]
    words = {_shown(name): _described(kind.get_member_type(i)) for i, name in enumerate(names)}
    return {name: text for name, text in words.items() if name not in _fields(kind)}


def without_type(where: str, words: str) -> DataError:
    """Return the error for what is of a type that numpy does not have. words: what it holds."""
    return DataError(f"{where} holds {words}, a type that numpy does not have", _REMEDY)


def read_region(dataset: h5py.Dataset, region: Sequence[slice]) -> Array:
    """Read a part of a compound: the fields that numpy has types for. region: of the first axes; others are whole."""
    whole = (slice(None),) * (dataset.ndim - len(region))
    bounds = [side.indices(size)[:2] for side, size in zip((*region, *whole), dataset.shape, strict=True)]
    start, counts = zip(*((first, end - first) for first, end in bounds), strict=True)
    space = dataset.id.get_space()
    space.select_hyperslab(start, counts)
    values = np.empty(counts, dtype_of(dataset))
    dataset.id.read(h5py.h5s.create_simple(counts), space, values)
    return values


def attribute(owner: h5py.Dataset | h5py.Group, name: str) -> Any:
    """Return the value of an attribute, None where there is none; where numpy has no type for it, what it holds."""
    try:
        return owner.attrs.get(name)
    except _UNKNOWN:
        return _described(owner.attrs.get_id(name).get_type())


def _fields(kind: h5t.TypeID) -> dict[str, tuple[np.dtype[Any], int]]:
    """Return dtype and offset of the fields of a compound that numpy has types for; nothing of another type."""
    fields: dict[str, tuple[np.dtype[Any], int]] = {}
    for i in range(kind.get_nmembers()) if isinstance(kind, h5t.TypeCompoundID) else ():
        try:
            fields[kind.get_member_name(i).decode()] = _dtype(kind.get_member_type(i)), kind.get_member_offset(i)
        except _UNKNOWN:  # a name that is not UTF-8 among them
            continue
    return fields


def are_pixels(rows: Array) -> bool:
    """Tell whether rows look like images as cameras give them: planes of whole numbers from 0 to 255, bright ones too.

    rows  as they are stored, (rows, *row shape)
    """
    plane = [size for size in rows.shape[1:] if size >= _SIDE]
    if rows.dtype.kind not in "uif" or len(plane) < 2 or not rows.size:
        return False
    least, most = float(rows.min()), float(rows.max())  # NaN fails both comparisons
    return least >= 0 and _BRIGHT <= most <= _WHITE and bool((rows == np.floor(rows)).all())


def _dtype(kind: h5t.TypeID) -> np.dtype[Any]:
    """Return the dtype for values of a type. Raises one of `_UNKNOWN` where there is none, or they cannot be read."""
    match kind:
        case h5t.TypeOpaqueID() if (tag := kind.get_tag()) and not tag.startswith(_OF_NUMPY):
            raise TypeError("bytes are read only by who knows their tag")
        case h5t.TypeArrayID():
            _dtype(kind.get_super())
        case h5t.TypeCompoundID():
            for i in range(kind.get_nmembers()):
                _dtype(kind.get_member_type(i))
    dtype: np.dtype[Any] = kind.dtype
    return dtype


def _described(kind: h5t.TypeID) -> str:
    """Say what values of a type are."""
    match kind:
        case h5t.TypeTimeID():
            return f"times of {8 * kind.get_size()} bits"
        case h5t.TypeFloatID():
            return f"floats of {kind.get_precision()} bits"
        case h5t.TypeIntegerID():
            return f"integers of {kind.get_precision()} bits"
        case h5t.TypeOpaqueID():
            return f"bytes tagged {_shown(kind.get_tag())}"
        case h5t.TypeArrayID() | h5t.TypeVlenID():
            return f"arrays of {_described(kind.get_super())}"
        case h5t.TypeCompoundID():
            names = (kind.get_member_name(i) for i in range(kind.get_nmembers()))
            each = (f"{_shown(name)}: {_described(kind.get_member_type(i))}" for i, name in enumerate(names))
            return f"compounds ({', '.join(each)})"
    return type(kind).__name__.removeprefix("Type").removesuffix("ID").lower()


def _shown(name: bytes) -> str:
    return name.decode(errors="backslashreplace")
