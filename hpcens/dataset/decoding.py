"""Decoding: packed numbers as netCDF stores them, unpacked as xarray's mask_and_scale does, in float64.

| attribute | meaning |
| --- | --- |
| `_FillValue`, `missing_value` | stored numbers that stand for none: NaN, or the `fill` of the YAML |
| `scale_factor`, `add_offset` | the number is stored × factor + offset |
| `_Unsigned` | integers are stored as the others, signed for unsigned |
| `valid_min`, `valid_max`, `valid_range` | named in the plan, not applied |
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np

from hpcens.dataset.types import attribute
from hpcens.errors import DataError
from hpcens.specs import Decode
from hpcens.vocabulary import Array

_SCALING = ("scale_factor", "add_offset")
_FILLS = ("_FillValue", "missing_value")
_UNSIGNED = "_Unsigned"
_VALID = ("valid_min", "valid_max", "valid_range")
PACKING = (*_SCALING, *_FILLS, _UNSIGNED)
_NETCDF_FILE = ("_NCProperties", "_nc3_strict")
_NETCDF_DATASET = ("DIMENSION_LIST", "_Netcdf4Dimid", "_Netcdf4Coordinates")


@dataclass(frozen=True, slots=True)
class Decoding:
    """How the stored numbers of an input are unpacked.

    stored   dtype in which they are looked at: that of the dataset, or as `_Unsigned` says
    scale    factor; None: there is none
    offset   added after that; None: there is none
    fills    stored numbers that stand for none
    instead  what those become
    """

    stored: str
    scale: float | None
    offset: float | None
    fills: tuple[int | float, ...]
    instead: float = math.nan

    @property
    def dtype(self) -> str:
        """That of the numbers unpacked: the narrowest that loses nothing."""
        stored = np.dtype(self.stored)
        if self.scale is not None or self.offset is not None:
            return "<f8"
        if stored.kind == "f" or not self.fills:
            return self.stored
        return "<f4" if stored.itemsize <= 2 else "<f8"

    @property
    def text(self) -> str:
        """What is done, in words that stay the same: it is part of the dataset's identity."""
        parts = [f"as {self.stored}", *(f"{fill!r} is {self.instead!r}" for fill in self.fills)]
        parts += [f"× {self.scale!r}"] * (self.scale is not None) + [f"+ {self.offset!r}"] * (self.offset is not None)
        return ", ".join(parts)

    def unpack(self, raw: Array) -> Array:
        """Return the numbers of rows as they are stored."""
        raw = raw.view(self.stored)
        values = raw.astype(self.dtype)
        if self.scale is not None:
            values *= self.scale
        if self.offset is not None:
            values += self.offset
        if self.fills:
            values[self.absent(raw)] = self.instead
        return values

    def absent(self, raw: Array) -> Array:
        """Tell of each stored number whether it stands for none: as many booleans, in the shape of `raw`."""
        raw = raw.view(self.stored)
        found = np.zeros(raw.shape, bool)
        for fill in self.fills:
            found |= np.isnan(raw) if math.isnan(fill) else raw == fill
        return found


def decoding_of(
    dataset: h5py.Dataset, where: str, key: str, decode: Decode, fill: float | None
) -> tuple[Decoding | None, tuple[str, ...]]:
    """Return how a dataset's numbers are unpacked, None where they are taken as they are, and what is to be said of it.

    where  file and dataset, for messages
    key    of the input in the YAML, for messages
    fill   what the YAML puts where a number is absent; None where it says nothing

    Raises DataError where an attribute cannot be applied, or a key of the YAML would have no effect.
    """
    attributes = {name: attribute(dataset, name) for name in (*PACKING, *_VALID) if name in dataset.attrs}
    packing = [name for name in PACKING if name in attributes]
    applied = decode == "true" or (decode == "auto" and is_netcdf(dataset))
    if not applied or not packing:
        _require_effect(where, key, decode, fill, packing)
    if not applied:
        unapplied = f"{where} has {_described(attributes, packing)}, not applied: write {key}.decode: true, or false"
        return None, (unapplied,) if packing and decode == "auto" else ()
    if not packing:
        return None, tuple(_unchecked(where, attributes))
    made = _decoding(dataset.dtype.newbyteorder("="), attributes, where, key, fill)
    remarks = [f"{where} has {_described(attributes, packing)}, applied ({key}.decode)", *_unchecked(where, attributes)]
    trivial = made.scale is None and made.offset is None and not made.fills and made.stored == made.dtype
    return None if trivial and made.stored == dataset.dtype.newbyteorder("=").str else made, tuple(remarks)


def is_netcdf(dataset: h5py.Dataset) -> bool:
    """Tell whether a dataset bears the marks of netCDF: those of its file, or dimension scales of its own."""
    scale = attribute(dataset, "CLASS") in (b"DIMENSION_SCALE", "DIMENSION_SCALE")
    marked = any(name in dataset.file.attrs for name in _NETCDF_FILE)
    return scale or marked or any(name in dataset.attrs for name in _NETCDF_DATASET)


def _require_effect(where: str, key: str, decode: Decode, fill: float | None, packing: list[str]) -> None:
    if decode == "true" and not packing:
        raise DataError(f"{where} has none of {', '.join(PACKING)}", f"remove {key}.decode: it would do nothing")
    if fill is not None:
        why = f"has no {' or '.join(_FILLS)}" if not packing else "bears no mark of netCDF"
        remedy = f"remove {key}.fill, which would do nothing" if not packing else f"write {key}.decode: true too"
        raise DataError(f"{where} {why}", remedy)


def _decoding(dtype: np.dtype[Any], attributes: dict[str, Any], where: str, key: str, fill: float | None) -> Decoding:
    stored = _as_signed(dtype, attributes.get(_UNSIGNED))
    scale, offset = (_single(attributes, name, where, key) for name in _SCALING)
    fills = [number for name in _FILLS for number in _numbers(attributes, name, where, key)]
    kept = dict.fromkeys(exact for number in fills for exact in _stored_as(stored, number, stored.kind != dtype.kind))
    if fill is None:
        kept = dict.fromkeys(number for number in kept if not math.isnan(number))
    elif not kept:
        raise DataError(f"{where} has no {' or '.join(_FILLS)}", f"remove {key}.fill, which would do nothing")
    return Decoding(
        stored.str,
        None if scale == 1 else scale,
        None if offset == 0 else offset,
        tuple(kept),
        math.nan if fill is None else fill,
    )


def _as_signed(dtype: np.dtype[Any], unsigned: Any) -> np.dtype[Any]:
    """Return the dtype as the attribute `_Unsigned` says that it is meant."""
    text = unsigned.decode() if isinstance(unsigned, bytes) else str(unsigned)
    meant = {("i", "true"): "u", ("u", "false"): "i"}.get((dtype.kind, text.lower()))
    return dtype if meant is None else np.dtype(f"{meant}{dtype.itemsize}")


def _stored_as(dtype: np.dtype[Any], number: float, reread: bool) -> Iterator[int | float]:
    """Yield a fill value as the dtype holds it; nothing where it cannot.

    reread  whether that is not the dtype of the dataset, so that the same bits may be written as another number
    """
    if dtype.kind == "f":
        if math.isnan(number) or abs(number) <= float(np.finfo(dtype).max):
            yield float(dtype.type(number))
    elif math.isfinite(number) and number == int(number):
        limits, wide = np.iinfo(dtype), 1 << 8 * dtype.itemsize
        ways = (int(number), int(number) + wide, int(number) - wide) if reread else (int(number),)
        yield from (way for way in ways if limits.min <= way <= limits.max)


def _numbers(attributes: dict[str, Any], name: str, where: str, key: str) -> list[Any]:
    """Return the numbers of an attribute. Raises DataError where it holds none."""
    value = attributes.get(name)
    if value is None or isinstance(value, h5py.Empty):
        return []
    values = np.ravel(value)
    if values.dtype.kind not in "iuf":
        raise DataError(f"{where}: its attribute {name} is no number but {value!r}", f"write {key}.decode: false")
    numbers: list[Any] = values.tolist()
    return numbers


def _single(attributes: dict[str, Any], name: str, where: str, key: str) -> float | None:
    numbers = _numbers(attributes, name, where, key)
    if len(numbers) > 1 or not all(map(math.isfinite, numbers)):
        raise DataError(f"{where}: its attribute {name} is {numbers}, not one number", f"write {key}.decode: false")
    return float(numbers[0]) if numbers else None


def _described(attributes: dict[str, Any], names: list[str]) -> str:
    return ", ".join(f"{name} {_shown(attributes[name])}" for name in names)


def _shown(value: Any) -> str:
    if isinstance(value, h5py.Empty):
        return "(empty)"
    values = np.ravel(value).tolist()
    text = str(values[0] if len(values) == 1 else values)
    return text if len(text) <= 60 else f"{text[:57]}…"


def _unchecked(where: str, attributes: dict[str, Any]) -> Iterator[str]:
    names = [name for name in _VALID if name in attributes]
    if names:
        yield f"{where} has {_described(attributes, names)}, not applied: what lies outside is scored as it is"
