"""A compressed result, put together of its parts in one pass: each byte is read once, checked, compressed, written.

Nothing else of the result is there meanwhile. HDF5 writes metadata as it goes, so that of a start that was ended
nothing is of use: the parts stay until the result has its name, and the next start begins again.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from hpcens.errors import HpcensError
from hpcens.result.checksum import Checksum
from hpcens.result.disk import Disk, made_by_hdf5
from hpcens.result.form import SUMMARY_BYTES, Form, describe, label_outputs
from hpcens.result.journal import Header, Journal, Kind, Record
from hpcens.result.lustre import make_striped
from hpcens.result.masked_rows import count_masked
from hpcens.result.packed import create_compressed, require_same_when_read
from hpcens.result.parts import OpenPart, Part, in_groups, open_part
from hpcens.result.seal import seal
from hpcens.runs import Claim, Epoch, RunDirectory
from hpcens.vocabulary import Array

# Of each dataset: a chunk that two groups share is compressed once, when the second has come.
_CACHE_BYTES = 8 << 20


class PackedAssembly:
    """The compressed result of a run, put together of its parts; parameters as those of `begin_assembly`."""

    def __init__(self, run: RunDirectory, epoch: Epoch, form: Form, disk: Disk) -> None:
        """Begin the file. Raises Superseded where a newer start has taken the run over."""
        epoch.require_newest()
        for path in run.unfinished(epoch.number):
            path.unlink(missing_ok=True)
        self._run, self._epoch, self._form, self._disk = run, epoch, form, disk
        self._made_of = json.loads(form.attributes["fingerprint"])
        self._checksums: dict[int, int] = {}
        self._notes: dict[int, list[Record]] = {}
        self._path = run.packed(epoch.number)
        make_striped(self._path)
        with made_by_hdf5(self._path):
            # what is written wholly leaves the cache first
            self._file = h5py.File(self._path, "w", locking=False, rdcc_nbytes=_CACHE_BYTES, rdcc_w0=1.0)
            describe(self._file, form)
            for output in form.outputs:
                create_compressed(self._file, output, form)
            label_outputs(self._file, form)
            if form.columns is not None:
                form.columns(self._file)
                seal(self._file)

    def take(self, part: Part) -> bool:
        """Copy a part; return whether it was whole: its file, its journal and every byte."""
        opened = open_part(part, self._form, self._made_of, self._disk)
        if opened is None:
            return False
        try:
            groups = in_groups(list(part.segmentation.numbers), self._form)
            return all(self._copy(opened, group) for group in groups)
        finally:
            opened.file.close()

    def _copy(self, part: OpenPart, segments: list[int]) -> bool:
        """Copy consecutive segments; return whether their bytes are those of their checksums."""
        if not part.written.keys() >= set(segments):
            return False
        segmentation = self._form.segmentation
        start, stop = segmentation.bounds(segments[0])[0], segmentation.bounds(segments[-1])[1]
        read = {output.name: part.file.read(output, start, stop) for output in self._form.outputs}
        for segment in segments:
            first, last = segmentation.bounds(segment)
            if _checksum(segment, [rows[first - start : last - start] for rows in read.values()]) != (
                checksum := part.written[segment].checksum
            ):
                return False
            self._checksums[segment] = checksum
            self._notes[segment] = list(part.notes.get(segment, ()))
        with made_by_hdf5(self._path):
            for name, rows in read.items():
                self._file[name][start:stop] = rows
        return True

    def masked(self) -> list[Any]:
        """Count what was masked, as `Result.masked` does."""
        return count_masked(record for notes in self._notes.values() for record in notes)

    def finish(self, output: Path, summary: Mapping[str, Any]) -> None:
        """Make the file durable, read every segment back, journal them all, and give the result its name.

        Raises HpcensError where segments are missing or read back damaged, Superseded where a newer start has taken
        the run over.
        """
        segments = len(self._form.segmentation)
        if missing := segments - len(self._checksums):
            raise HpcensError(f"{missing} segments are missing", "run the same command again")
        text = json.dumps(summary).encode()[:SUMMARY_BYTES].ljust(SUMMARY_BYTES)
        with made_by_hdf5(self._path):
            checksums = [self._checksums[segment] for segment in range(segments)]
            self._file["hpcens/written"] = np.ones(segments, np.uint8)
            self._file["hpcens/checksums"] = np.array(checksums, "<u8")
            self._file["hpcens/summary"] = np.frombuffer(text, np.uint8)
            self._file.close()
        descriptor = self._disk.open(self._path)
        self._disk.sync(descriptor)
        self._disk.close(descriptor)
        require_same_when_read(self._path)
        self._journal()
        self._epoch.require_newest()
        self._disk.rename(self._path, output)

    def _journal(self) -> None:
        """Journal all segments. The working file that it names was never there: nobody goes on with it."""
        claim = Claim.load(self._epoch.claim)
        working = self._run.working(self._epoch.number).name
        header = Header(self._epoch.number, claim.id if claim else "", working, len(self._checksums), 1)
        journal = Journal(self._disk, self._run.journal(self._epoch), header)
        written = [
            record
            for segment, checksum in sorted(self._checksums.items())
            for record in (*self._notes[segment], Record(Kind.WRITTEN, segment, checksum))
        ]
        journal.append([Record(Kind.INHERITED, segment=0), *written, Record(Kind.CLOSED)])
        journal.sync()
        journal.close()

    def close(self) -> None:
        """End in order: it will not write again."""
        with contextlib.suppress(OSError, RuntimeError):  # of a disk that is full: the file is gone already
            self._file.close()


def _checksum(segment: int, outputs: list[Array]) -> int:
    digest = Checksum(segment)
    for rows in outputs:
        digest.add(np.ascontiguousarray(rows).reshape(-1).view(np.uint8).data)
    return digest.value
