"""Layout: how the chunks of a compressed dataset lie to its rows, and what a row costs to read."""

from __future__ import annotations

import math
from dataclasses import dataclass

import h5py

from hpcens.dataset.types import dtype_of

KEPT_BYTES = 256 << 20
"""Chunks, decompressed, that are kept for the next rows whatever memory there is."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Chunks in bands: all that lie over the same rows.

    shape   of the dataset
    chunk   shape of a chunk
    axis    that of the rows
    size    bytes of a chunk, decompressed
    """

    shape: tuple[int, ...]
    chunk: tuple[int, ...]
    axis: int
    size: int

    @property
    def tall(self) -> int:
        """Rows of a band."""
        return self.chunk[self.axis]

    @property
    def across(self) -> int:
        """Chunks of a band."""
        sides = zip(self.shape, self.chunk, strict=True)
        return math.prod(-(-size // step) for axis, (size, step) in enumerate(sides) if axis != self.axis)

    @property
    def band_bytes(self) -> int:
        """What is decompressed to see one row."""
        return self.across * self.size

    @property
    def lies_along_rows(self) -> bool:
        """Whether so much is behind a row that its chunks cannot simply be kept."""
        return self.band_bytes > KEPT_BYTES

    def is_kept(self, budget: int) -> bool:
        """Tell whether a band is kept as long as rows of it are read, so that each chunk is decompressed once.

        budget  bytes of memory that this may take
        """
        return self.band_bytes <= max(KEPT_BYTES, budget)

    def described(self, where: str) -> str:
        """Say what chunks that lie along the rows hold, and what can be done. where: file and dataset."""
        sides = zip(self.shape, self.chunk, strict=True)
        across = " × ".join(
            f"{min(size, step):,} of {size:,}" for axis, (size, step) in enumerate(sides) if axis != self.axis
        )
        what = "a column" if self.across == math.prod(self.shape) // self.shape[self.axis] else f"{across} of each"
        name, gigabytes = where.rpartition(": ")[2].strip("/"), self.band_bytes / 1e9
        return (
            f"each chunk holds {what}, {min(self.tall, self.shape[self.axis]):,} rows tall; rechunk (h5repack"
            f" -l {name}:CHUNK={self._better()}), or read whole columns: {gigabytes:.3g} GB, decompressed once where a"
            " quarter of a reader's free memory holds them, else again for every segment"
        )

    def _better(self) -> str:
        """Return chunks of as many bytes or less that lie across the rows, as h5repack takes them."""
        row = math.prod(self.shape) // self.shape[self.axis] * (self.size // math.prod(self.chunk))
        rows = max(1, min(self.shape[self.axis], (1 << 20) // max(1, row)))
        return "x".join(str(rows if axis == self.axis else size) for axis, size in enumerate(self.shape))


def layout_of(dataset: h5py.Dataset, axis: int) -> Layout | None:
    """Return how a compressed dataset's chunks lie; None where it is not compressed, and any row is read alone."""
    if dataset.chunks is None or not dataset.id.get_create_plist().get_nfilters():
        return None
    return Layout(dataset.shape, dataset.chunks, axis, math.prod(dataset.chunks) * dtype_of(dataset).itemsize)
