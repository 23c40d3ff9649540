"""Table: one HDF5 dataset of a file, read by rows. It is decompressed by several threads, each chunk once.

A chunk that reaches into the rows read next is kept, decompressed, until they are read; the chunks
behind it are begun meanwhile. What is kept is bounded: chunks whose row of chunks takes more than `KEPT_BYTES`, and
more than there is memory to keep, are decompressed again.
"""

from __future__ import annotations

import itertools
import math
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any

import h5py
import numpy as np
from h5py._objects import phil

from hpcens.arrays import Buffers
from hpcens.dataset.chunks import Chunks, chunks_of
from hpcens.dataset.decompression import pipeline_of
from hpcens.dataset.direct import stored_as_read
from hpcens.dataset.hdf5 import unreadable
from hpcens.dataset.inputs import Target
from hpcens.dataset.layout import KEPT_BYTES, Layout, layout_of
from hpcens.dataset.plain import Plain, rows_first
from hpcens.dataset.selection import Where, ascending
from hpcens.dataset.threads import Threads
from hpcens.dataset.types import dtype_of, read_region, untyped_fields
from hpcens.vocabulary import Array

_Rows = slice | tuple[Array, Any]
"""A range, or ascending rows and the place of each in the target."""

_READ_BYTES = 8 << 20  # of a segment, at most
_TASK_BYTES, _TASKS = 4 << 20, 4  # of chunks that are one task; tasks of each thread in a segment, at least


def open_table(dataset: h5py.Dataset, threads: Threads, end: int, axis: int = 0, budget: int = 0) -> Plain | Chunked:
    """Open a dataset for reading by rows.

    threads  that read
    end      rows from here on will not be asked for, so that nothing is read ahead of it
    axis     that of the rows; the others keep their order
    budget   bytes of memory for chunks that are kept, besides `KEPT_BYTES`
    """
    layout = layout_of(dataset, axis)
    return Plain(dataset, axis, threads, end) if layout is None else Chunked(dataset, layout, threads, end, budget)


class Chunked:
    """A compressed table. A tile is a chunk by its place across the rows; a band is all tiles over the same rows."""

    def __init__(self, dataset: h5py.Dataset, layout: Layout, threads: Threads, end: int, budget: int) -> None:
        self.layout = layout
        self._dataset = dataset
        self._threads = threads
        self._end = end
        self._axis = axis = layout.axis
        self._chunk = dataset.chunks
        self._tall, *self._steps = rows_first(dataset.chunks, axis)
        self._length, *self._sizes = rows_first(dataset.shape, axis)
        self._dtype = dtype_of(dataset)
        self._row_bytes = max(1, math.prod(self._sizes) * self._dtype.itemsize)
        sides = [range(0, size, step) for size, step in zip(self._sizes, self._steps, strict=True)]
        self._tiles = list(itertools.product(*sides))
        size = layout.size
        self._partly = bool(untyped_fields(dataset))
        self._pipeline = pipeline_of(dataset, size) if stored_as_read(dataset) else None
        self._chunks: Chunks | None = None
        self._sought = self._pipeline is None
        # whether a chunk is, byte for byte, rows as they are wanted
        self._whole_rows = not axis and self._steps == self._sizes and self._dtype.isnative
        self.kept_whole = layout.is_kept(budget)
        self._most = max(1, KEPT_BYTES // max(1, size), layout.across if self.kept_whole else 0)
        self._buffers = Buffers()  # else each chunk that is kept would come on fresh pages
        self._kept: dict[int, Future[Array]] = {}

    def read(self, where: Where, targets: Sequence[Target]) -> None:
        """Fill every target with these rows. Raises DataError naming those that cannot be read."""
        if isinstance(where, slice):
            self.find_chunks()
            self._forget_before(where.start)
            self._read(range(where.start // self._tall, -(-where.stop // self._tall)), where, targets)
            self._forget_before(where.stop if where.stop < self._end else self._length + self._tall)
            self._begin(len(self._tiles) * -(-where.stop // self._tall))
        else:
            rows, places = ascending(where)
            self._read(np.unique(rows // self._tall).tolist(), (rows, places), targets)
            if rows is where:
                self._forget_before(int(rows[-1]))

    @property
    def _depth(self) -> int:
        """Tasks that are under way at once."""
        return min(2 * self._threads.decompressing, self._most)

    def find_chunks(self) -> None:
        """Find once where the chunks lie."""
        if not self._sought:
            self._sought, self._chunks = True, chunks_of(self._dataset, self.layout.size, self._axis, self._end)

    def seconds_a_row(self, place: float, most: int) -> float:
        """Return the seconds that a row takes, from those of a few chunks of one band.

        place  of the band in the dataset, 0 … 1
        most   bytes to decompress, unless one chunk has more
        """
        layout = self.layout
        bands = -(-min(self._end, self._length) // self._tall)
        band = min(bands - 1, int(place * bands))
        count = max(1, min(layout.across, most // layout.size))
        began = time.perf_counter()
        for tried in [
            self._threads.pool.submit(self._decompressed, band * layout.across + tile) for tile in range(count)
        ]:
            tried.result()
        whole = (time.perf_counter() - began) * layout.across / count
        return whole / (self._tall if self.kept_whole else min(self._tall, max(1, _READ_BYTES // self._row_bytes)))

    def _read(self, bands: Sequence[int], where: _Rows, targets: Sequence[Target]) -> None:
        """Every chunk is decompressed and copied to its place by one thread, `_depth` at once; small ones as a task."""
        keys = (band * len(self._tiles) + tile for band in bands for tile in range(len(self._tiles)))
        part = -(-len(bands) * len(self._tiles) // (_TASKS * self._threads.decompressing))
        together = max(1, min(part, _TASK_BYTES // max(1, self.layout.size), self._most // self._depth))
        begun: deque[Future[list[tuple[int, Array]]]] = deque()
        while True:
            while len(begun) < self._depth and (some := list(itertools.islice(keys, together))):
                kept = [(key, self._kept.get(key)) for key in some]
                begun.append(self._threads.pool.submit(self._place_all, kept, where, targets))
            if not begun:
                return
            self._keep(begun.popleft().result())

    def _keep(self, chunks: Sequence[tuple[int, Array]]) -> None:
        for key, chunk in chunks:
            if len(self._kept) < self._most and key not in self._kept:
                self._kept[key] = done = Future[Array]()
                done.set_result(chunk)

    def _place_all(
        self, chunks: Sequence[tuple[int, Future[Array] | None]], where: _Rows, targets: Sequence[Target]
    ) -> list[tuple[int, Array]]:
        """Copy the rows of chunks to their place; return those that may be asked for again."""
        placed = ((key, self._place(key, kept, where, targets)) for key, kept in chunks)
        return [(key, chunk) for key, chunk in placed if chunk is not None]

    def _place(self, key: int, kept: Future[Array] | None, where: _Rows, targets: Sequence[Target]) -> Array | None:
        """Copy a chunk's rows to their place; return the chunk if it may be asked for again."""
        into = self._straight(key, where, targets) if kept is None else None
        chunk: Array = kept.result() if kept is not None else self._decompressed(key, into)
        if into is not None:
            return None
        band, tile = divmod(key, len(self._tiles))
        inside, place = self._rows(band * self._tall, where)
        across = zip(self._tiles[tile], self._steps, self._sizes, strict=True)
        sides = tuple(slice(at, min(at + step, size)) for at, step, size in across)
        within = tuple(slice(0, side.stop - side.start) for side in sides)
        for field, out in targets:
            values = chunk if field is None else chunk[field]
            out[(place, *sides)] = values[(inside, *within)]
        return None if isinstance(where, slice) and (band + 1) * self._tall <= where.stop else chunk

    def _straight(self, key: int, where: _Rows, targets: Sequence[Target]) -> Array | None:
        """Return the part of a target that a chunk fills, byte for byte; None where it has to be copied."""
        first = key * self._tall
        if not self._whole_rows or len(targets) != 1 or not isinstance(where, slice):
            return None
        [(field, out)] = targets
        same = field is None and out.dtype == self._dtype and out.flags.c_contiguous
        if not same or first < where.start or first + self._tall > where.stop:
            return None
        return out[first - where.start : first - where.start + self._tall]

    def _rows(self, first: int, where: _Rows) -> tuple[Any, Any]:
        """Return which rows of the band that begins at `first` are wanted: within it, and in the target."""
        if isinstance(where, slice):
            start, stop = max(first, where.start), min(first + self._tall, where.stop)
            return slice(start - first, stop - first), slice(start - where.start, stop - where.start)
        rows, places = where
        begin, end = np.searchsorted(rows, (first, first + self._tall)).tolist()
        return rows[begin:end] - first, places[begin:end]

    def _begin(self, first: int) -> None:
        """Decompress the chunks that will be asked for next, one a thread, as far as there is room to keep them."""
        room = min(self._threads.decompressing, self._most - len(self._kept))
        for key in range(first, min(first + room, len(self._tiles) * -(-self._end // self._tall))):
            if key not in self._kept:
                self._kept[key] = self._threads.pool.submit(self._decompressed, key)

    def _forget_before(self, row: int) -> None:
        """Drop the chunks that end before this row, or with it."""
        for key in [key for key in self._kept if (key // len(self._tiles) + 1) * self._tall <= row]:
            del self._kept[key]

    def _decompressed(self, key: int, into: Array | None = None) -> Array:
        """Return a chunk, its rows first. into: where it is to be, see `_straight`; None: in memory of its own."""
        band, tile = divmod(key, len(self._tiles))
        start, across = band * self._tall, self._tiles[tile]
        offset = (*across[: self._axis], start, *across[self._axis :])
        try:
            whole = self._whole(offset, into)
            return np.moveaxis(whole, self._axis, 0) if self._axis else whole
        except Exception as error:  # HDF5's errors come as half a dozen types
            raise unreadable(self._dataset, start, min(start + self._tall, self._length), error) from None

    def _whole(self, offset: tuple[int, ...], into: Array | None) -> Array:
        place = tuple(at // step for at, step in zip(offset, self._chunk, strict=True))
        if self._chunks is not None and self._chunks.holds(place):
            return self._undone(self._chunks.read(place), 0, into)
        if self._chunks is not None and self._chunks.is_absent(place):
            return self._filled(into)
        if self._pipeline is None:
            return self._by_library(offset, into)
        try:
            with phil:  # HDF5's one lock, which some versions of h5py do not take here
                mask, raw = self._dataset.id.read_direct_chunk(offset)
        except Exception:
            if self._dataset.id.get_chunk_info_by_coord(offset).byte_offset is None:
                return self._filled(into)
            raise
        edges = zip(offset, self._chunk, self._dataset.shape, strict=True)
        if len(raw) == self._pipeline.size and any(at + step > size for at, step, size in edges):
            return self._by_library(offset, into)  # filters may have been left out, which no mask says then
        return self._undone(raw, mask, into)

    def _by_library(self, offset: tuple[int, ...], into: Array | None) -> Array:
        region = tuple(slice(at, at + step) for at, step in zip(offset, self._chunk, strict=True))
        if into is not None:
            self._dataset.read_direct(into, region)
            return into
        chunk: Array = read_region(self._dataset, region) if self._partly else self._dataset[region]
        return chunk

    def _filled(self, into: Array | None) -> Array:
        """Return a chunk that was never written."""
        chunk = np.empty(self._chunk, self._dtype) if into is None else into
        chunk[...] = self._dataset.fillvalue
        return chunk

    def _undone(self, raw: bytes | Array, mask: int, into: Array | None) -> Array:
        assert self._pipeline is not None, "the library undoes its own"
        whole = self._buffers.empty(self._chunk, self._dtype) if into is None else into
        self._pipeline.undo(raw, mask, whole.reshape(-1).view(np.uint8))
        return whole
