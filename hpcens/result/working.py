"""The working file: the result while it grows. Plain HDF5 from its first moment, kill it where you like.

Its datasets (see `form`) are contiguous and allocated when it is created; then the HDF5 library lets
go of it for good, and segments are written by position. No HDF5 metadata changes any more, so no kill can damage it.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from hpcens.errors import DataError, HpcensError
from hpcens.files import MALFORMED
from hpcens.result.checksum import Checksum
from hpcens.result.disk import Disk, made_by_hdf5
from hpcens.result.form import SUMMARY_BYTES, Form, describe, label_outputs
from hpcens.result.journal import Record
from hpcens.result.lustre import make_striped
from hpcens.result.outputs import Output
from hpcens.result.seal import seal
from hpcens.vocabulary import Array, Segmentation


def create(path: Path, form: Form) -> None:
    """Make the file whole: every dataset allocated, every attribute and column written. Durable on return.

    It has its name only then: HDF5 writes metadata while it makes a file, and a kill would leave half of it.
    """
    temporary = path.with_suffix(".making")
    rows, segments = form.segmentation.part_rows, len(form.segmentation.numbers)
    temporary.unlink(missing_ok=True)  # HDF5 would write through a link
    make_striped(temporary)
    with made_by_hdf5(temporary), h5py.File(temporary, "w", locking=False) as file:
        describe(file, form)
        if form.columns is not None:
            form.columns(file)
            seal(file)
        for output in form.outputs:
            _allocate(file, output.name, (rows, *output.shape), output.dtype)
        _allocate(file, "hpcens/written", (segments,), "u1")
        _allocate(file, "hpcens/checksums", (segments,), "<u8")
        _allocate(file, "hpcens/summary", (SUMMARY_BYTES,), "u1")
        label_outputs(file, form)
    with temporary.open("rb+") as raw:
        _reserve(raw.fileno(), temporary.stat().st_size)
        os.fsync(raw.fileno())
    os.replace(temporary, path)


def _allocate(file: h5py.File, name: str, shape: tuple[int, ...], dtype: str) -> None:
    """Take space now, contiguous and never filled: what is not written reads as zero."""
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_layout(h5py.h5d.CONTIGUOUS)
    properties.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    properties.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    parents = h5py.h5p.create(h5py.h5p.LINK_CREATE)
    parents.set_create_intermediate_group(True)
    kind = h5py.h5t.py_create(np.dtype(dtype), logical=True)
    h5py.h5d.create(file.id, name.encode(), kind, h5py.h5s.create_simple(shape), dcpl=properties, lcpl=parents)


def _reserve(file: int, size: int) -> None:
    """Claim the space, so that a full disk is found before hours are spent. Not all file systems can."""
    try:
        os.posix_fallocate(file, 0, size)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
            raise


class WorkingFile:
    """The file of `create`, written by position."""

    def __init__(self, disk: Disk, path: Path, outputs: Sequence[Output], segmentation: Segmentation) -> None:
        """Open the file. Raises DataError where it is not one of ours or was made for other outputs."""
        self.path = path
        self._disk = disk
        self._segmentation = segmentation
        self._first = segmentation.first  # the file holds the part alone
        self._outputs = tuple(outputs)
        try:
            with h5py.File(path, "r", locking=False) as file:
                self._offsets = {output.name: self._offset(file, output) for output in outputs}
                some = len(segmentation) > 0
                self._written = int(file["hpcens/written"].id.get_offset()) if some else 0
                self._checksums = int(file["hpcens/checksums"].id.get_offset()) if some else 0
                self._summary = int(file["hpcens/summary"].id.get_offset())
        except (OSError, RuntimeError, *MALFORMED) as error:
            if isinstance(error, OSError) and error.errno is not None:  # the disk's word, not HDF5's
                raise
            raise DataError(f"{path} is damaged: {error}", "remove the file: its rows are scored again") from None
        self._file = disk.open(path)

    def _offset(self, file: h5py.File, output: Output) -> int:
        dataset = file.get(output.name)
        shape = (self._segmentation.part_rows, *output.shape)
        if not isinstance(dataset, h5py.Dataset) or dataset.shape != shape or dataset.dtype != np.dtype(output.dtype):
            raise DataError(f"{self.path}: dataset {output.name} is not {shape} {output.dtype}", "remove the file")
        offset = dataset.id.get_offset() if dataset.size else 0
        if offset is None:
            raise DataError(f"{self.path}: dataset {output.name} is not contiguous", "remove the file")
        return int(offset)

    def _place(self, output: Output, row: int) -> int:
        """Return where a row of the dataset lies in the file."""
        return self._offsets[output.name] + (row - self._segmentation.first_row) * output.row_bytes

    def write(self, segment: int, values: Mapping[str, Array]) -> int:
        """Write a segment's rows of every output and return their checksum. They are not yet durable.

        values  output name to (rows of the segment, *output shape)
        """
        start, stop = self._segmentation.bounds(segment)
        digest = Checksum(segment)
        for output in self._outputs:
            if not np.can_cast(values[output.name].dtype, output.dtype):
                raise HpcensError(
                    f"segment {segment}: {output.name} would be rounded from {values[output.name].dtype}",
                    "this is a fault of hpcens: report it",
                )
            rows = np.ascontiguousarray(values[output.name], np.dtype(output.dtype))
            if rows.shape != (stop - start, *output.shape):
                raise DataError(
                    f"segment {segment}: {output.name} is {rows.shape}, not {(stop - start, *output.shape)}"
                )
            data = rows.reshape(-1).view(np.uint8).data
            digest.add(data)
            self._disk.write(self._file, data, self._place(output, start))
        return digest.value

    def placements(self, segments: Iterable[int]) -> list[Record]:
        """Return what a journal is to say of segments beside their checksums: nothing, rows lie by their number."""
        return []

    def sync(self) -> None:
        """Return once all segments that were written are durable."""
        self._disk.sync_data(self._file)

    def mark(self, checksums: Iterable[tuple[int, int]]) -> None:
        """Tell readers of the working file that these segments, already durable, are real."""
        for segment, checksum in checksums:
            place = segment - self._first
            self._disk.write(self._file, int(checksum).to_bytes(8, "little"), self._checksums + 8 * place)
            self._disk.write(self._file, b"\1", self._written + place)

    def unmark(self, segment: int) -> None:
        """Tell readers of the working file that a segment is not to be taken for real."""
        self._disk.write(self._file, b"\0", self._written + segment - self._first)

    def checksum(self, segment: int) -> int:
        """Compute the checksum of what the file holds."""
        digest = Checksum(segment)
        for part in self._extents(segment):
            digest.add(part)
        return digest.value

    def copy(self, segment: int, to: WorkingFile) -> int:
        """Copy a segment's bytes into another file; returns the checksum of what was copied."""
        digest = Checksum(segment)
        start, _ = self._segmentation.bounds(segment)
        for output, part in zip(self._outputs, self._extents(segment), strict=True):
            digest.add(part)
            to._disk.write(to._file, part, to._place(output, start))
        return digest.value

    def read(self, output: Output, start: int, stop: int) -> Array:
        """Read rows of the dataset as the file holds them, (stop − start, *output shape)."""
        size = (stop - start) * output.row_bytes
        data = self._disk.read(self._file, size, self._place(output, start))
        return np.frombuffer(data, output.dtype).reshape(stop - start, *output.shape)

    def _extents(self, segment: int) -> Iterable[bytes]:
        start, stop = self._segmentation.bounds(segment)
        for output in self._outputs:
            size = (stop - start) * output.row_bytes
            yield self._disk.read(self._file, size, self._place(output, start))

    def summarise(self, summary: Mapping[str, Any]) -> None:
        """Write what is known only at the end, as JSON in a dataset of fixed size."""
        text = json.dumps(summary).encode()[:SUMMARY_BYTES].ljust(SUMMARY_BYTES)
        self._disk.write(self._file, text, self._summary)

    def close(self) -> None:
        """Close the file; what is there stays for the next start."""
        self._disk.close(self._file)
