"""Plugins: the decompressors of h5py (lzf) and of the package hdf5plugin, called directly: by several threads at once.

A filter is one C function that HDF5 would call under its lock. ctypes lets go of Python's lock while it runs.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Sequence
from typing import Any

import h5py
import numpy as np

from hpcens.dataset.filters import load_plugins
from hpcens.vocabulary import Array

REVERSE = 0x100  # H5Z_FLAG_REVERSE
# filters whose function needs nothing of the HDF5 library to decompress: bzip2, blosc, lz4, bitshuffle, zstd, blosc2
_OURS = (307, 32001, 32004, 32008, 32015, 32026)

_LZF = 32000

_libc = ctypes.CDLL(None)
_libc.malloc.restype = ctypes.c_void_p
_libc.malloc.argtypes = [ctypes.c_size_t]
_libc.free.argtypes = [ctypes.c_void_p]


class _Class(ctypes.Structure):
    """H5Z_class2_t."""

    _fields_ = (
        ("version", ctypes.c_int),
        ("id", ctypes.c_int),
        ("encodes", ctypes.c_uint),
        ("decodes", ctypes.c_uint),
        ("name", ctypes.c_char_p),
        ("can_apply", ctypes.c_void_p),
        ("set_local", ctypes.c_void_p),
        ("filter", ctypes.c_void_p),
    )


# A chunk of HDF5 is smaller: what is larger is a negative number taken for a size.
_LARGEST = (1 << 32) - 1

_Filter = ctypes.CFUNCTYPE(
    ctypes.c_size_t,
    ctypes.c_uint,
    ctypes.c_size_t,
    ctypes.POINTER(ctypes.c_uint),
    ctypes.c_size_t,
    ctypes.POINTER(ctypes.c_size_t),
    ctypes.POINTER(ctypes.c_void_p),
)


class _Memory:
    """Bytes that a filter left behind, given back once no array looks at them."""

    def __init__(self, address: int, size: int) -> None:
        self._address = address
        self.__array_interface__ = {"data": (address, False), "shape": (size,), "typestr": "|u1", "version": 3}

    def __del__(self, free: Callable[[int], None] = _libc.free) -> None:
        free(self._address)


def decoder(filter_id: int, values: Sequence[int]) -> Callable[[Array], Array] | None:
    """Return a function that undoes a filter on the bytes of a chunk; None where that is left to the library.

    values  the filter's client data
    The function raises ValueError where the bytes are damaged.
    """
    if filter_id == _LZF:
        lzf = getattr(ctypes.CDLL(h5py.h5z.__file__), "lzf_filter", None)
        return None if lzf is None else _bound(_Filter(ctypes.cast(lzf, ctypes.c_void_p).value or 0), values)
    if filter_id not in _OURS or not load_plugins():
        return None
    os.environ.setdefault("BLOSC_NOLOCK", "1")  # else blosc works on one chunk at a time
    function = _function(filter_id)
    return None if function is None else _bound(function, values)


def _function(filter_id: int) -> Any:
    import hdf5plugin

    for path in hdf5plugin.get_config().registered_filters.values():
        if os.path.isfile(path):
            library = ctypes.CDLL(path)  # hdf5plugin loaded it before, so that it is ready
            library.H5PLget_plugin_info.restype = ctypes.c_void_p
            description = _Class.from_address(library.H5PLget_plugin_info())
            if description.id == filter_id:
                return _Filter(description.filter)
    return None


def _bound(function: Any, values: Sequence[int]) -> Callable[[Array], Array]:
    data_values = (ctypes.c_uint * len(values))(*values)

    def decode(data: Array) -> Array:
        buffer = ctypes.c_void_p(_libc.malloc(max(1, data.nbytes)))
        if not buffer:
            raise MemoryError
        ctypes.memmove(buffer, data.ctypes.data, data.nbytes)
        given, room = buffer.value, ctypes.c_size_t(data.nbytes)
        size = function(REVERSE, len(values), data_values, data.nbytes, ctypes.byref(room), ctypes.byref(buffer))
        memory = _Memory(buffer.value or 0, size)
        # zstd and lz4 of hdf5plugin before 7.0 put another buffer in its place, and do not say how large it is
        unsaid = buffer.value != given and room.value == data.nbytes
        if not 0 < size <= (_LARGEST if unsaid else room.value):  # 0, or a negative number taken for a size
            raise ValueError("its compressed bytes are damaged")
        return np.asarray(memory)

    return decode
