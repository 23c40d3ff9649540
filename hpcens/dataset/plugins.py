"""Plugins: the decompressors of h5py (lzf) and of the package hdf5plugin, called directly: by several threads at once.

A filter is one C function that HDF5 would call under its lock. ctypes lets go of Python's lock while it runs.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import h5py
import numpy as np

from hpcens.dataset.filters import load_plugins
from hpcens.vocabulary import Array

REVERSE = 0x100  # H5Z_FLAG_REVERSE
# filters whose function needs nothing of the HDF5 library to decompress: bzip2, blosc, lz4, bitshuffle, zstd, blosc2
_OURS = (307, 32001, 32004, 32008, 32015, 32026)

_LZF, _BLOSC, _ZSTD = 32000, 32001, 32015
_BLOSC_SIZE = slice(12, 16)  # of its header: of the compressed bytes, header included

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


def decoder(filter_id: int, values: Sequence[int]) -> Callable[[Array, Array | None], Array] | None:
    """Return a function that undoes a filter on the bytes of a chunk; None where that is left to the library.

    values  the filter's client data
    The function takes the array that the bytes are to be put into, where their size is right and the filter's library
    can, and raises ValueError where they are damaged.
    """
    if filter_id == _LZF:
        library = ctypes.CDLL(h5py.h5z.__file__)
        lzf = getattr(library, "lzf_filter", None)
        function = None if lzf is None else _Filter(ctypes.cast(lzf, ctypes.c_void_p).value or 0)
    elif filter_id in _OURS and load_plugins():
        os.environ.setdefault("BLOSC_NOLOCK", "1")  # else blosc works on one chunk at a time
        function, library = _function(filter_id)
    else:
        return None
    return None if function is None else _bound(function, values, _straight(filter_id, library))


def _function(filter_id: int) -> tuple[Any, Any]:
    """Return a filter's function, and the library it is of."""
    import hdf5plugin

    for path in hdf5plugin.get_config().registered_filters.values():
        if os.path.isfile(path):
            library = ctypes.CDLL(path)  # hdf5plugin loaded it before, so that it is ready
            library.H5PLget_plugin_info.restype = ctypes.c_void_p
            description = _Class.from_address(library.H5PLget_plugin_info())
            if description.id == filter_id:
                return _Filter(description.filter), library
    return None, None


_Straight = Callable[[Array, Array], bool]
"""Decompresses into an array of the right size; False where it did not, and the filter is to say why."""


def _straight(filter_id: int, library: Any) -> _Straight | None:
    """Return what decompresses into memory that is there, where the filter's library shows it."""
    address, size = ctypes.c_void_p, ctypes.c_size_t
    try:
        if filter_id == _LZF:
            decompress = library.lzf_decompress
            decompress.argtypes, decompress.restype = [address, ctypes.c_uint, address, ctypes.c_uint], ctypes.c_uint
            return partial(_by_lzf, decompress)
        if filter_id == _BLOSC:
            validate, decompress = library.blosc_cbuffer_validate, library.blosc_decompress_ctx
            validate.argtypes = [address, size, ctypes.POINTER(size)]
            decompress.argtypes = [address, address, size, ctypes.c_int]
            return partial(_by_blosc, validate, decompress)
        if filter_id == _ZSTD:
            decompress = library.ZSTD_decompress
            decompress.argtypes, decompress.restype = [address, size, address, size], size
            return partial(_by_zstd, decompress)
    except AttributeError:  # a build that hides it
        pass
    return None


def _by_lzf(decompress: Any, data: Array, into: Array) -> bool:
    return bool(decompress(data.ctypes.data, data.nbytes, into.ctypes.data, into.nbytes) == into.nbytes)


def _by_blosc(validate: Any, decompress: Any, data: Array, into: Array) -> bool:
    if int.from_bytes(data[_BLOSC_SIZE].tobytes(), "little") > data.nbytes:
        raise ValueError("its compressed bytes are damaged")  # the filter would read on behind them
    size = ctypes.c_size_t()
    if validate(data.ctypes.data, data.nbytes, ctypes.byref(size)) < 0 or size.value != into.nbytes:
        return False
    return bool(decompress(data.ctypes.data, into.ctypes.data, into.nbytes, 1) == into.nbytes)


def _by_zstd(decompress: Any, data: Array, into: Array) -> bool:
    return bool(decompress(into.ctypes.data, into.nbytes, data.ctypes.data, data.nbytes) == into.nbytes)


def _bound(
    function: Any, values: Sequence[int], straight: _Straight | None = None
) -> Callable[[Array, Array | None], Array]:
    data_values = (ctypes.c_uint * len(values))(*values)

    def decode(data: Array, into: Array | None) -> Array:
        if into is not None and straight is not None and data.nbytes and straight(data, into):
            return into
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
