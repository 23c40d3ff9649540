"""Read rows straight from the file, outside the HDF5 library and its one lock, where they lie there as in memory.

That is so where a dataset of a plain file is contiguous, allocated, of its own file, and of a type that numpy has as
it is stored, or where its chunks are (`chunks`); all else is left to the library.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass

import h5py
import numpy as np
from h5py import h5d, h5fd

from hpcens.dataset.types import dtype_of
from hpcens.vocabulary import Array

Piece = tuple[int, Array]
"""Bytes of a file: at which one they begin, and where they are to go, uint8 (bytes,)."""


@dataclass(frozen=True, slots=True)
class Direct:
    """Where the rows of a contiguous dataset lie.

    descriptor  of the file, which is the library's
    offset      of the first row, in bytes
    row_bytes   of a row
    dtype       as it is stored
    """

    descriptor: int
    offset: int
    row_bytes: int
    dtype: np.dtype[np.generic]

    def pieces(self, start: int, out: Array) -> list[Piece] | None:
        """Return what fills an array, (rows, *row shape), with the rows from `start` on; None where it cannot."""
        if out.dtype != self.dtype or not out.flags.c_contiguous:
            return None
        return [(self.offset + start * self.row_bytes, out.reshape(-1).view(np.uint8))]


def read_at(descriptor: int, offset: int, out: Array) -> None:
    """Fill an array, uint8 (bytes,), with the bytes of a file from an offset on. Raises OSError where it ends first."""
    left = out.data
    while left:
        read = os.preadv(descriptor, [left], offset)
        if not read:
            raise OSError(f"the file ends {len(left)} bytes before them")
        left, offset = left[read:], offset + read


def direct_of(dataset: h5py.Dataset) -> Direct | None:
    """Return where a dataset's rows lie, along its first axis; None where only the library can read them."""
    try:
        properties = dataset.id.get_create_plist()
        if properties.get_layout() != h5d.CONTIGUOUS or properties.get_external_count():
            return None
        offset, dtype = dataset.id.get_offset(), dtype_of(dataset)
        if offset is None or not is_plain(dataset.file) or not stored_as_read(dataset) or not dtype.isnative:
            return None
        row_bytes = math.prod(dataset.shape[1:]) * dtype.itemsize
        return Direct(dataset.file.id.get_vfd_handle(), offset, row_bytes, dtype)
    except Exception:  # of an unusual file: the library knows what it is
        return None


def is_plain(file: h5py.File) -> bool:
    """Tell whether what the library calls an address in a file is that byte of it."""
    access, creation = file.id.get_access_plist(), file.id.get_create_plist()
    return access.get_driver() == h5fd.SEC2 and not creation.get_userblock()


def stored_as_read(dataset: h5py.Dataset) -> bool:
    """Tell whether the bytes of a dataset are those of a numpy array: no conversion, no references into the file."""
    dtype = dtype_of(dataset)
    if dtype.hasobject or dtype.subdtype is not None:
        return False
    return bool(h5py.h5t.py_create(dtype, logical=True).equal(dataset.id.get_type()))
