"""Candidates: rows of a result that keeps few of them, while it grows.

Each writer has a file of its own to which a segment appends the rows that may be kept: those above a value, or those
that beat the K-th best that is durable. The journal says where they lie. What is chosen of all of them in the end is
the same, whatever the order of segments, the number of writers and kills.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hpcens.errors import HpcensError
from hpcens.result.checksum import Checksum
from hpcens.result.disk import Disk
from hpcens.result.form import Form
from hpcens.result.journal import Kind, Record
from hpcens.result.keeping import Keeping, best_first
from hpcens.result.working import WorkingFile, create
from hpcens.vocabulary import Array

_ROW, _VALUE = "row", "value"
_KEY = np.dtype([(_ROW, "<i8"), (_VALUE, "<f8")])
_FOUND = np.dtype([(_ROW, "<i8"), (_VALUE, "<f8"), ("writer", "<i8"), ("offset", "<i8")])
_MANY = 1 << 20  # candidates that are looked at together


class Candidates:
    """A result that is made, as one of its writers sees it; stands where a `WorkingFile` does for one of all rows.

    path    of the working file, which has marks and summary but no rows
    writer  number of the writer; None: it is read alone
    placed  where candidates lie that are durable: records KEPT
    """

    def __init__(
        self, disk: Disk, path: Path, form: Form, writer: int | None = None, placed: Iterable[Record] = ()
    ) -> None:
        assert form.keep is not None, "made for a form that keeps rows"
        self.path = path
        self._disk, self._form, self._writer = disk, form, writer
        self._keeping: Keeping = form.keep
        self._marks = WorkingFile(disk, path, (), form.segmentation)
        fields = [(f"{i}", output.dtype, output.shape) for i, output in enumerate(form.outputs)]
        self._record = np.dtype([(_ROW, "<i8"), (_VALUE, "<f8"), *fields])
        self._files: dict[int, int] = {}
        self._placed = {record.segment: record for record in placed}
        self._pending: dict[int, Array] = {}
        self._end = 0
        self._best = np.zeros(0, _KEY)
        if writer is not None:
            self._files[writer] = disk.open(self._path_of(writer), create=True)
            disk.sync_folder(path.parent)
            self._learn(self._placed)

    def _path_of(self, writer: int) -> Path:
        return self.path.with_name(f"{self.path.stem}.rows-{writer}")

    def _file(self, writer: int) -> int:
        if writer not in self._files:
            self._files[writer] = self._disk.open(self._path_of(writer))
        return self._files[writer]

    def write(self, segment: int, values: Mapping[str, Array]) -> int:
        """Append those of a segment's rows that may be kept, and return their checksum. They are not yet durable.

        values  output name to (rows of the segment, *output shape)
        """
        start, _ = self._form.segmentation.bounds(segment)
        found = self._keeping.values(values)
        places = self._keeping.candidates(found, start, self._best[_VALUE], self._best[_ROW])
        block = np.zeros(len(places), self._record)
        block[_ROW], block[_VALUE] = start + places, found[places]
        for number, output in enumerate(self._form.outputs):
            block[f"{number}"] = values[output.name][places]
        if self._keeping.top is not None:
            self._pending[segment] = _keys(block)
        return self._append(segment, block.tobytes())

    def _append(self, segment: int, data: bytes) -> int:
        assert self._writer is not None, "opened to be written"
        self._disk.write(self._files[self._writer], data, self._end)
        rows = len(data) // self._record.itemsize
        self._placed[segment] = Record(Kind.KEPT, segment, self._end, self._writer, rows)
        self._end += len(data)
        return _checksum(segment, data)

    def placements(self, segments: Iterable[int]) -> list[Record]:
        """Return what a journal is to say of segments beside their checksums."""
        return [self._placed[segment] for segment in segments]

    def _read(self, segment: int) -> bytes:
        record = self._placed.get(segment)
        if record is None or not record.batch:
            return b""
        try:
            file = self._file(record.member)
        except FileNotFoundError:  # its checksum tells that it is gone
            return b""
        return self._disk.read(file, record.batch * self._record.itemsize, record.checksum)

    def sync(self) -> None:
        """Return once all candidates that were written are durable."""
        if self._writer is not None:
            self._disk.sync_data(self._files[self._writer])

    def mark(self, checksums: Iterable[tuple[int, int]]) -> None:
        """Tell readers that these segments are durable; from now on others have to beat their rows."""
        done = list(checksums)
        self._marks.mark(done)
        self._learn([segment for segment, _ in done])

    def _learn(self, segments: Iterable[int]) -> None:
        if self._keeping.top is None:
            return
        known = [self._best]
        for segment in segments:
            keys = self._pending.pop(segment, None)
            known.append(_keys(np.frombuffer(self._read(segment), self._record)) if keys is None else keys)
        if any(map(len, known[1:])):
            self._best = self._best_of(known)

    def unmark(self, segment: int) -> None:
        """Tell readers that a segment is not to be taken for real."""
        self._marks.unmark(segment)

    def checksum(self, segment: int) -> int:
        """Compute the checksum of what the file holds."""
        return _checksum(segment, self._read(segment))

    def copy(self, segment: int, to: Candidates) -> int:
        """Copy a segment's candidates to those of another start; return the checksum of what was copied."""
        return to._append(segment, self._read(segment))

    def summarise(self, summary: Mapping[str, Any]) -> None:
        """Write what is known only at the end."""
        self._marks.summarise(summary)

    def chosen(self, records: Sequence[Record], path: Path) -> tuple[WorkingFile, Form]:
        """Write the rows that are kept into a file of their own, best first, and read it back.

        records  KEPT, of all segments
        path     of the file; replaced
        """
        self._placed = {record.segment: record for record in records}
        found = np.zeros(0, _FOUND)
        waiting: list[Array] = []
        count = 0
        for record in sorted(self._placed.values(), key=lambda record: record.segment):
            waiting.append(self._found(record))
            count += record.batch
            if count > max(_MANY, len(found)):
                found, waiting, count = self._best_of([found, *waiting]), [], 0
        found = self._best_of([found, *waiting])
        form = self._form.of_kept(found[_ROW])
        create(path, form)
        file = WorkingFile(self._disk, path, form.outputs, form.segmentation)
        for segment in range(len(form.segmentation)):
            start, stop = form.segmentation.bounds(segment)
            places = found[["writer", "offset"]][start:stop].tolist()
            parts = [self._disk.read(self._file(writer), self._record.itemsize, at) for writer, at in places]
            block = np.frombuffer(b"".join(parts), self._record)
            outputs = {output.name: block[f"{i}"] for i, output in enumerate(self._form.outputs)}
            checksum = file.write(segment, outputs | {form.outputs[0].name: block[_ROW]})
            file.mark([(segment, checksum)])
            if file.checksum(segment) != checksum:
                raise HpcensError(f"rows that are kept read back damaged from {path}", "run the same command again")
        return file, form

    def _found(self, record: Record) -> Array:
        """Return a segment's candidates, and where each of them lies."""
        block = np.frombuffer(self._read(record.segment), self._record)
        found = np.zeros(len(block), _FOUND)
        found[_ROW], found[_VALUE], found["writer"] = block[_ROW], block[_VALUE], record.member
        found["offset"] = record.checksum + np.arange(len(block)) * self._record.itemsize
        return found

    def _best_of(self, parts: Sequence[Array]) -> Array:
        every = np.concatenate(parts)
        return every[best_first(every[_VALUE], every[_ROW])[: self._keeping.top]]

    def close(self) -> None:
        """Close the files; what is there stays for the next start."""
        for file in self._files.values():
            self._disk.close(file)
        self._marks.close()


def _keys(block: Array) -> Array:
    """Return row numbers and values alone."""
    keys = np.zeros(len(block), _KEY)
    keys[_ROW], keys[_VALUE] = block[_ROW], block[_VALUE]
    return keys


def _checksum(segment: int, data: bytes) -> int:
    digest = Checksum(segment)
    digest.add(data)
    return digest.value
