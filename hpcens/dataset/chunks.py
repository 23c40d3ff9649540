"""Chunks of a file: where each lies, found once, so that its bytes are read outside the HDF5 library and its one lock.

Of a plain file only, and of a chunk that went through all filters of its dataset; all else is left to the library.
"""

from __future__ import annotations

import math
import threading
from array import array
from dataclasses import dataclass, field

import h5py
import numpy as np

from hpcens.dataset.direct import Piece, is_plain, read_at, stored_as_read
from hpcens.dataset.types import dtype_of
from hpcens.vocabulary import Array

_MOST_CHUNKS = 1 << 24  # places of which take 256 MiB
_FEW_CHUNKS, _PART = 1 << 16, 8  # found in a tenth of a second; of more an eighth at least is to be read
_ABSENT, _ELSEWISE = -1, -2


@dataclass(frozen=True, slots=True)
class Chunks:
    """Where the chunks of a dataset lie.

    descriptor  of the file, which is the library's
    addresses   of each chunk in the file, int64 (chunks along each axis); below 0 where there is none to be read there
    sizes       of its bytes, as they are stored
    """

    descriptor: int
    addresses: Array
    sizes: Array
    _of_thread: threading.local = field(default_factory=threading.local)

    def is_absent(self, place: tuple[int, ...]) -> bool:
        """Tell whether a chunk was never written. place: its number along each axis."""
        return bool(self.addresses[place] == _ABSENT)

    def holds(self, place: tuple[int, ...]) -> bool:
        """Tell whether a chunk can be read here."""
        return bool(self.addresses[place] >= 0)

    def read(self, place: tuple[int, ...]) -> Array:
        """Return the bytes of a chunk as they are stored, until this thread reads the next one.

        Raises OSError where the file has not as many.
        """
        if not hasattr(self._of_thread, "memory"):
            self._of_thread.memory = np.empty(int(self.sizes.max()), np.uint8)
        raw: Array = self._of_thread.memory[: int(self.sizes[place])]
        read_at(self.descriptor, int(self.addresses[place]), raw)
        return raw


class WholeRows:
    """Rows in chunks that hold them whole and that no filter has changed."""

    def __init__(self, dataset: h5py.Dataset, end: int) -> None:
        """Read chunks of a dataset. end: rows from here on will not be asked for."""
        self._dataset = dataset
        self._end = end
        self._dtype = dtype_of(dataset)
        self._tall = int(dataset.chunks[0])
        self._row_bytes = math.prod(dataset.shape[1:]) * self._dtype.itemsize
        self._chunks: Chunks | None = None
        self._sought = False

    def find_chunks(self) -> None:
        """Find once where the chunks lie."""
        if not self._sought:
            self._sought = True
            self._chunks = chunks_of(self._dataset, self._tall * self._row_bytes, 0, self._end)

    @property
    def descriptor(self) -> int:
        """That of the file, which is the library's."""
        return int(self._dataset.file.id.get_vfd_handle())

    def pieces(self, start: int, out: Array) -> list[Piece] | None:
        """Return what fills an array, (rows, *row shape), with the rows from `start` on; None where it cannot."""
        stop = start + len(out)
        if out.dtype != self._dtype or not out.flags.c_contiguous or start == stop:
            return None
        self.find_chunks()
        if self._chunks is None:
            return None
        first, tall, row_bytes = start // self._tall, self._tall, self._row_bytes
        begins = self._chunks.addresses[first : -(-stop // tall)].reshape(-1).tolist()
        if min(begins) < 0:
            return None  # one of them holds fill values
        bytes_of, pieces = out.reshape(-1).view(np.uint8), list[tuple[int, int, int]]()
        for band, address in enumerate(begins, first):
            low, high = max(start, band * tall), min(stop, (band + 1) * tall)
            offset, size = address + (low - band * tall) * row_bytes, (high - low) * row_bytes
            if pieces and sum(pieces[-1][::2]) == offset:  # behind the last one in the file, too
                size += pieces.pop()[2]
                offset = offset + (high - low) * row_bytes - size
            pieces.append((offset, (high - start) * row_bytes - size, size))
        return [(offset, bytes_of[at : at + size]) for offset, at, size in pieces]


def whole_rows_of(dataset: h5py.Dataset, end: int) -> WholeRows | None:
    """Return what reads rows in chunks that hold them whole and unchanged; None where they do not.

    end  rows from here on will not be asked for
    """
    try:
        plain = not dataset.id.get_create_plist().get_nfilters() and is_plain(dataset.file)
        along = not dataset.is_virtual and dataset.chunks is not None and dataset.chunks[1:] == dataset.shape[1:]
        if plain and along and stored_as_read(dataset) and dtype_of(dataset).isnative:
            return WholeRows(dataset, end)
    except Exception:  # of an unusual file: the library knows what it is
        pass
    return None


def chunks_of(dataset: h5py.Dataset, size: int, axis: int, end: int) -> Chunks | None:
    """Find all chunks of a dataset; None where only the library can read them, or few of very many will be read.

    size  bytes of a chunk that no filter has changed
    axis  that of the rows
    end   rows from here on will not be asked for
    """
    try:
        grid = tuple(-(-length // side) for length, side in zip(dataset.shape, dataset.chunks, strict=True))
        few = end * _PART < dataset.shape[axis] and math.prod(grid) > _FEW_CHUNKS
        if few or math.prod(grid) > _MOST_CHUNKS or not is_plain(dataset.file):
            return None
        return _listed(dataset, grid, size)
    except Exception:  # of an unusual file, or a damaged one: the library says what it is
        return None


def _listed(dataset: h5py.Dataset, grid: tuple[int, ...], size: int) -> Chunks | None:
    offsets, stored = array("q"), array("q")

    def note(chunk: h5py.h5d.StoreInfo) -> None:
        offsets.extend(chunk.chunk_offset)
        stored.extend((-1 if chunk.byte_offset is None else chunk.byte_offset, chunk.size, chunk.filter_mask))

    dataset.id.chunk_iter(note)
    addresses, sizes = np.full(grid, _ABSENT, np.int64), np.zeros(grid, np.int64)
    descriptor = dataset.file.id.get_vfd_handle()
    if not offsets:
        return Chunks(descriptor, addresses, sizes)
    begins = np.frombuffer(offsets, np.int64).reshape(-1, len(grid))
    at, lengths, masks = np.frombuffer(stored, np.int64).reshape(-1, 3).T
    last = dataset.id.get_chunk_info(len(begins) - 1)  # some versions of the library count offsets in chunks here
    if tuple(begins[-1].tolist()) != tuple(last.chunk_offset) or at[-1] != last.byte_offset:
        return None
    places, beside = np.divmod(begins, dataset.chunks)
    if beside.any() or (places >= grid).any():
        return None
    # One that reaches beyond the dataset may have been left as it was without a mark of that in its mask.
    beyond = (begins + dataset.chunks > dataset.shape).any(1) & (lengths == size)
    filtered = bool(dataset.id.get_create_plist().get_nfilters())
    here = (masks == 0) & ~(beyond & filtered) & (at >= 0) & (filtered | (lengths == size))
    addresses[tuple(places.T)] = np.where(here, at, _ELSEWISE)
    sizes[tuple(places.T)] = lengths
    return Chunks(descriptor, addresses, sizes)
