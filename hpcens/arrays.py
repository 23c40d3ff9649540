"""Buffers: memory for arrays that outlive a pass, apart from the heap in which activations come and go.

Where both share a heap, an array that arrives amid a pass lies where the next pass needs one large piece, so the heap
grows: device ranks held up to twice the memory they needed. Here each array has pages of its own, used again after it.
"""

from __future__ import annotations

import math
import weakref
from collections import deque
from collections.abc import Iterable, Sequence
from mmap import MAP_ANONYMOUS, MAP_PRIVATE, mmap
from typing import Any

import numpy as np
import numpy.typing as npt

_SMALLEST = 64 << 10  # below it pages cost more than they save
_KEPT = 16
# Bytes, of a vector of the widest kind: kernels choose their way, and so the last bits, by where data begin.
ALIGNMENT = 64


Kind = tuple[Sequence[int], npt.DTypeLike]
"""Shape and dtype of an array."""


def bytes_of(kinds: Iterable[Kind]) -> int:
    """Return the bytes that such arrays take one behind another, each aligned."""
    return sum(_aligned(math.prod(shape) * np.dtype(dtype).itemsize) for shape, dtype in kinds)


def laid_out(memory: npt.NDArray[Any], kinds: Iterable[Kind]) -> tuple[npt.NDArray[Any], ...]:
    """Return such arrays one behind another in memory that is aligned itself, uint8 (bytes,)."""
    arrays, begin = [], 0
    for shape, dtype in kinds:
        kind = np.dtype(dtype)
        size = math.prod(shape) * kind.itemsize
        arrays.append(memory[begin : begin + size].view(kind).reshape(shape))
        begin += _aligned(size)
    return tuple(arrays)


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


class Buffers:
    """Makes arrays; takes back the memory of those that nobody holds any more. Used by several threads."""

    def __init__(self) -> None:
        self._free: deque[mmap] = deque(maxlen=_KEPT)  # those that are not used again fall out at the other end

    def empty(self, shape: Sequence[int], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """Return an array of whatever the memory held, aligned."""
        kind = np.dtype(dtype)
        size = math.prod(shape) * kind.itemsize
        if size < _SMALLEST:
            some = np.empty(size + ALIGNMENT, np.uint8)
            start = -some.ctypes.data % ALIGNMENT
            return some[start : start + size].view(kind).reshape(shape)
        pages = self._take(size)
        whole = np.frombuffer(pages, np.uint8)
        weakref.finalize(whole, self._free.append, pages).atexit = False
        return whole[:size].view(kind).reshape(shape)

    def copy(self, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return a copy of the array, aligned, in memory that outlives a pass."""
        made = self.empty(array.shape, array.dtype)
        made[...] = array
        return made

    def aligned(self, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return the array, or a copy where its data do not begin as they would in one that is made here."""
        return array if array.ctypes.data % ALIGNMENT == 0 else self.copy(array)

    def _take(self, size: int) -> mmap:
        """Free pages that fit without much waste, else new ones."""
        for _ in range(len(self._free)):
            try:
                pages = self._free.popleft()
            except IndexError:
                break
            if size <= len(pages) <= 2 * size:
                return pages
            self._free.append(pages)
        return mmap(-1, size, MAP_PRIVATE | MAP_ANONYMOUS)
