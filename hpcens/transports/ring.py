"""The ring: memory of a reader, in slots, where other processes of its host read the rows that it has read.

It has no name, so that nothing is left of it when its processes have ended, however they did, and all of its pages are
there from the start: who ran out of them later would die of it. Another process opens it by the reader's process id
and descriptor, and looks for a nonce in it: in another namespace these numbers may be somebody else's.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hpcens.vocabulary import Array

_NAME = "hpcens-rows"
_PAGE = mmap.PAGESIZE
_NONCE_BYTES = 16
_POPULATED: int = getattr(mmap, "MAP_POPULATE", 0)  # all pages at once, rather than one by one as they are met


@dataclass(frozen=True, slots=True)
class RingAddress:
    """Where a ring is found: process and descriptor of its reader, its size in bytes and what lies at its beginning."""

    process: int
    descriptor: int
    size: int
    nonce: bytes


class Ring:
    """Slots of shared memory, as this process has mapped them."""

    def __init__(self, address: RingAddress, descriptor: int, slot_bytes: int = 0) -> None:
        self.address = address
        self._slot_bytes = slot_bytes
        pages = mmap.mmap(descriptor, address.size, mmap.MAP_SHARED | _POPULATED)
        self.memory: Array = np.frombuffer(pages, np.uint8)
        self._begin: int = self.memory.ctypes.data

    @property
    def slots(self) -> int:
        """Number of slots, where it was made."""
        return (self.address.size - _PAGE) // self._slot_bytes

    def conceal(self) -> None:
        """Let nobody else join the ring that was made here."""
        os.close(self.address.descriptor)

    def slot(self, number: int) -> Array:
        """Return the bytes of a slot: at its beginning is room for any kind of numbers."""
        begin = _PAGE + number * self._slot_bytes
        return self.memory[begin : begin + self._slot_bytes]

    def place(self, array: Array) -> int | None:
        """Return at which byte of the ring a contiguous array begins; None where it lies elsewhere."""
        place = array.ctypes.data - self._begin
        return place if place > 0 and place + array.nbytes <= self.address.size else None

    def at(self, place: int, shape: Sequence[int], dtype: str) -> Array:
        """Return the array that begins at a byte of the ring."""
        kind = np.dtype(dtype)
        size = int(np.prod(shape, dtype=np.int64)) * kind.itemsize
        return self.memory[place : place + size].view(kind).reshape(shape)


def make_ring(slots: int, slot_bytes: int, most: int) -> Ring | None:
    """Make a ring of so many slots, or of fewer that take `most` bytes together.

    Returns None where not even two fit, or the system has no such memory.
    """
    slot_bytes = max(1, -(-slot_bytes // _PAGE)) * _PAGE
    slots = min(slots, most // slot_bytes)
    if slots < 2:
        return None
    size, nonce = _PAGE + slots * slot_bytes, os.urandom(_NONCE_BYTES)
    try:
        descriptor = os.memfd_create(_NAME)
    except (AttributeError, OSError):
        return None
    try:
        os.posix_fallocate(descriptor, 0, size)
        ring = Ring(RingAddress(os.getpid(), descriptor, size, nonce), descriptor, slot_bytes)
    except (OSError, ValueError):
        os.close(descriptor)
        return None
    ring.memory[:_NONCE_BYTES] = np.frombuffer(nonce, np.uint8)
    return ring


def join_ring(address: RingAddress) -> Ring | None:
    """Map the ring of another process; None where this one cannot reach it."""
    path = Path(f"/proc/{address.process}/fd/{address.descriptor}")
    try:
        if _NAME not in os.readlink(path):  # what else is there may be a pipe, which would be waited for
            return None
        descriptor = os.open(path, os.O_RDWR)
    except OSError:
        return None
    try:
        if os.fstat(descriptor).st_size != address.size:
            return None
        ring = Ring(address, descriptor)
    except (OSError, ValueError):
        return None
    finally:
        os.close(descriptor)
    return ring if ring.memory[:_NONCE_BYTES].tobytes() == address.nonce else None


class Rings:
    """The rings that a rank reads and writes."""

    def __init__(self) -> None:
        self._own: Ring | None = None
        self._readers: frozenset[int] = frozenset()
        self._joined: dict[int, Ring] = {}

    def write(self, ring: Ring, readers: Collection[int]) -> None:
        """Take a ring that these ranks have joined: of what lies in it they are told where."""
        self._own, self._readers = ring, frozenset(readers)

    def read(self, rings: Mapping[int, Ring]) -> None:
        """Take rings of other ranks, by rank: what they tell the place of is read there."""
        self._joined = dict(rings)

    def places(self, to: int, arrays: Sequence[Array]) -> list[int | None]:
        """Return of each array where that rank finds it; None where it is to be sent."""
        ring = self._own if to in self._readers else None
        return [None if ring is None else ring.place(array) for array in arrays]

    def at(self, source: int, place: int, shape: Sequence[int], dtype: str) -> Array:
        """Return the array that a rank has told the place of."""
        return self._joined[source].at(place, shape, dtype)

    def close(self) -> None:
        """Let go of all. The memory is given back once nobody holds an array in it."""
        self._own, self._readers, self._joined = None, frozenset(), {}
