"""Decompression: what filters did to chunks when they were written, and how to undo it outside the HDF5 library.

The library reads under one lock. Undone here, chunks are decompressed by several threads at once. A
pipeline with a filter that is not known here (lzf, szip, …) is left to the library.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np

from hpcens.dataset.filters import load_plugins
from hpcens.dataset.plugins import decoder
from hpcens.errors import DataError
from hpcens.vocabulary import Array

Stage = Callable[[Array, Array | None], Array]
"""Undoes a filter on the bytes of a chunk: into the array that is given, where it can and the size is right."""

_DEFLATE, _SHUFFLE, _FLETCHER32 = 1, 2, 3
_BLOCK = 1 << 16
_MOST_RATIO, _MOST_AT_ONCE = 1032, 1 << 29  # of bytes that damage can come to: deflate makes no more of one
# registered at https://github.com/HDFGroup/hdf5_plugins; those of the package hdf5plugin
_PACKAGED = {
    307: "bzip2", 32001: "blosc", 32004: "lz4", 32008: "bitshuffle", 32013: "zfp", 32015: "zstd", 32017: "sz",
    32018: "fcidecomp", 32024: "sz3", 32026: "blosc2", 32028: "sperr",
}  # fmt: skip
_BUILT_IN = {1: "gzip", 2: "shuffle", 3: "fletcher32", 4: "szip", 5: "nbit", 6: "scaleoffset", 32000: "lzf"}


@dataclass(frozen=True, slots=True)
class Pipeline:
    """The filters of a dataset, in the order in which they are undone.

    size  bytes of a chunk when all are
    """

    stages: tuple[Stage, ...]
    size: int

    def undo(self, raw: bytes | Array, mask: int, into: Array) -> None:
        """Make the bytes of a chunk what they were before.

        raw   as they are stored
        mask  bit i is set where filter i was left out of this chunk
        into  uint8 (size,), where they are to be
        Raises ValueError where the bytes are damaged.
        """
        data: Array = np.frombuffer(raw, np.uint8)
        last = len(self.stages) - 1
        for i, stage in enumerate(self.stages):
            if not mask >> (last - i) & 1:
                data = stage(data, into if i == last else None)
        if data.nbytes != self.size:
            raise ValueError(f"it holds {data.nbytes} bytes, not {self.size}")
        if data is not into:
            into[:] = data


def require_filters(dataset: h5py.Dataset, where: str) -> None:
    """Raise DataError naming the first filter that nothing installed can undo, and the package that could.

    where  file and dataset, for the message
    """
    properties = dataset.id.get_create_plist()
    for i in range(properties.get_nfilters()):
        filter_id, _, _, name = properties.get_filter(i)
        if h5py.h5z.filter_avail(filter_id) or (load_plugins() and h5py.h5z.filter_avail(filter_id)):
            continue
        filter_name = _PACKAGED.get(filter_id) or _BUILT_IN.get(filter_id) or name.decode(errors="replace") or "unknown"
        raise DataError(
            f"{where} is compressed with {filter_name} (HDF5 filter {filter_id}), which is not installed here",
            "pip install 'hpcens[filters]' (the package hdf5plugin)"
            if filter_id in _PACKAGED
            else "install the HDF5 plugin of this filter and name its folder in HDF5_PLUGIN_PATH",
        )


def pipeline_of(dataset: h5py.Dataset, size: int) -> Pipeline | None:
    """Return how to undo a dataset's filters; None where that is to be left to the HDF5 library.

    size  bytes of a chunk
    """
    properties = dataset.id.get_create_plist()
    stages: list[Stage] = []
    count = properties.get_nfilters()
    room = size + 4 * count
    for i in reversed(range(count)):
        filter_id, _, values, _ = properties.get_filter(i)
        stage = _stage(filter_id, values, room)
        if stage is None:
            return None
        stages.append(stage)
    return Pipeline(tuple(stages), size)


def _stage(filter_id: int, values: tuple[int, ...], room: int) -> Stage | None:
    if filter_id == _DEFLATE:
        return _inflate(room)
    if filter_id == _SHUFFLE and values:
        return _unshuffle(values[0])
    if filter_id == _FLETCHER32:
        return _check
    return decoder(filter_id, values)


def _zlib() -> Any:
    """Import isal's zlib where it is installed: the same bytes in about half the time."""
    try:
        return importlib.import_module("isal.isal_zlib")
    except ImportError:
        return importlib.import_module("zlib")


def _inflate(room: int) -> Stage:
    zlib = _zlib()

    def inflate(data: Array, _: Array | None) -> Array:  # zlib gives bytes of its own
        try:
            if len(data) * _MOST_RATIO <= _MOST_AT_ONCE:
                return np.frombuffer(zlib.decompress(data.data, zlib.MAX_WBITS, room), np.uint8)
            stream = zlib.decompressobj()  # takes longer, for its memory grows step by step, but no further than that
            whole = stream.decompress(data.data, room)
        except zlib.error as error:
            raise ValueError(f"its compressed bytes are damaged ({error})") from None
        if not stream.eof:
            raise ValueError("its compressed bytes are damaged (no end)")
        return np.frombuffer(whole, np.uint8)

    return inflate


def _unshuffle(width: int) -> Stage:
    """Undo the sorting of bytes by their place in an element; those after the last whole element stay."""

    def unshuffle(data: Array, into: Array | None) -> Array:
        count = len(data) // width
        if width <= 1 or count <= 1:
            return data
        whole = np.empty_like(data) if into is None or len(into) != len(data) else into
        for place in range(width):  # three times as fast as one transposed copy, whose rows are short
            whole[place : count * width : width] = data[place * count : (place + 1) * count]
        whole[count * width :] = data[count * width :]
        return whole

    return unshuffle


def _check(data: Array, _: Array | None) -> Array:
    """Verify and take off the checksum behind the data (older libraries wrote it with swapped bytes)."""
    if len(data) < 4:
        raise ValueError("it is too short to hold its checksum")
    body, stored = data[:-4], int.from_bytes(data[-4:].tobytes(), "little")
    computed = fletcher32(body)
    swapped = (computed & 0xFF00FF) << 8 | (computed >> 8) & 0xFF00FF
    if stored not in (computed, swapped):
        raise ValueError("its checksum (fletcher32) is wrong")
    return body


def fletcher32(data: Array) -> int:
    """Compute the checksum as HDF5 does: sums of big-endian 16-bit words modulo 65535, never 0 but for zeros.

    data  bytes of a stored chunk, uint8 (bytes,)
    """
    words = data[: len(data) // 2 * 2].view(">u2")
    first = second = 0
    for start in range(0, len(words), _BLOCK):
        block = words[start : start + _BLOCK].astype(np.float64)  # all sums stay below 2^53
        second += first * len(block) + int(block @ np.arange(len(block), 0, -1, dtype=np.float64))
        first += int(block.sum())
    if len(data) % 2:
        first += int(data[-1]) << 8
        second += first
    return _folded(second) << 16 | _folded(first)


def _folded(total: int) -> int:
    return total % 65535 or (65535 if total else 0)
