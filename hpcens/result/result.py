"""The result of a run: opened behind a fence, written in durable groups, renamed when it is whole.

Order, always: data → fdatasync → journal → fsync → known as written. An epoch that cannot know that
its predecessor is gone does not touch the predecessor's file: it copies what is journalled into one
of its own, so that an old descriptor reaches only the old file.

Several ranks may write one result, segments by turns, each with a journal of its own. The first opens it, takes
over and finishes; the others join between. All sit on one node: where two nodes write one page of a file, a
network file system may lose the bytes of either.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hpcens.errors import HpcensError, Incomplete
from hpcens.result.candidates import Candidates
from hpcens.result.disk import Disk
from hpcens.result.finished import fingerprint_of
from hpcens.result.form import Form
from hpcens.result.journal import Content, Header, Journal, Kind, Record, journal_of, read_journal
from hpcens.result.masked_rows import MASKED, count_masked
from hpcens.result.packed import pack
from hpcens.result.seal import damaged_columns
from hpcens.result.working import WorkingFile, create
from hpcens.runs import Claim, Epoch, RunDirectory
from hpcens.vocabulary import Array, Bad, Cause

_NO_BAD_ROWS: Mapping[int, Sequence[Bad]] = {}


def standing(run: RunDirectory, before: int | None = None) -> Content | None:
    """Read the newest journal that took effect, of the starts numbered below `before` (None: of all)."""
    for epoch in run.epochs():
        if before is None or epoch.number < before:
            content = read_journal(run.journal(epoch))
            if content is not None and content.effective:
                return content
    return None


def reopen(run: RunDirectory, epoch: Epoch) -> None:
    """Take a phase that was complete back among the unfinished: the next start copies what is sound of it.

    run    as the phase sees it
    epoch  that found it damaged
    Raises Superseded where a newer start has taken the run over: what is complete is for that one to judge.
    """
    epoch.require_newest()
    content = standing(run)
    if content is not None:
        with contextlib.suppress(FileNotFoundError):  # another writer was as quick
            run.scored.rename(run.path / content.header.working)


class Result:
    """The result of a run as one of its epoch's writers sees it. Use `open`, and `join` for all but the first."""

    def __init__(self, disk: Disk, run: RunDirectory, epoch: Epoch, form: Form, writer: int, writers: int) -> None:
        """Open the result as the first writer, else join it.

        writer   number of the writer, from 0: it writes every segment s for which s mod `writers` is that
        writers  number of ranks that write the result
        """
        self._disk = disk
        self._run = run
        self._epoch = epoch
        self._form = form
        self._writers = writers
        self._mine = np.arange(len(form.segmentation)) % writers == writer
        part = form.segmentation.numbers
        self._mine[: part.start] = self._mine[part.stop :] = False
        self._checksums = np.zeros(len(form.segmentation), np.uint64)
        self._durable = np.zeros(len(form.segmentation), bool)
        self._pending: dict[int, int] = {}
        self._notes: dict[int, list[Record]] = {}
        self.syncing = 0.0  # seconds spent making groups durable
        self._file, self._journal = self._join(writer) if writer else self._open()

    @staticmethod
    def open(run: RunDirectory, epoch: Epoch, form: Form, disk: Disk | None = None, *, writers: int = 1) -> Result:
        """Take over what earlier epochs made durable, verified, and begin this epoch's journal."""
        return Result(disk or Disk(), run, epoch, form, 0, writers)

    @staticmethod
    def join(
        run: RunDirectory, epoch: Epoch, form: Form, disk: Disk | None = None, *, writer: int, writers: int
    ) -> Result:
        """Write into what the first writer of this epoch has opened."""
        return Result(disk or Disk(), run, epoch, form, writer, writers)

    @property
    def missing(self) -> list[int]:
        """Segments that are yet to be scored, of those that are this writer's."""
        return np.flatnonzero(self._mine & ~self._durable).tolist()

    def _open(self) -> tuple[WorkingFile | Candidates, Journal]:
        """Open what this start writes. Raises Superseded where a newer start has taken the run over.

        Nothing is removed that a newer start may own: it owns what starts from this one on have made. Of an older
        one's files it owns only that which this start has closed, and so not before this start writes its journal.
        """
        self._epoch.require_newest()
        old = standing(self._run, self._epoch.number)
        predecessor = next((e for e in self._run.epochs() if e.number < self._epoch.number), None)
        last = read_journal(self._run.journal(predecessor)) if predecessor else None
        inherited: list[Record] = []
        path = self._run.path / old.header.working if old else None
        if path and fingerprint_of(path) != json.loads(self._form.attributes["fingerprint"]):
            old = None  # what an earlier run of other members left: its result was finished, or is not to be continued
        whole = old and path and path.exists() and last and last.closed and last.header.working == path.name
        whole = whole and self._form.keep is None  # candidates are always copied: they are few
        file: WorkingFile | Candidates
        if old and path and whole and not damaged_columns(path):
            file = WorkingFile(self._disk, path, self._form.outputs, self._form.segmentation)
            inherited = list(old.written().values())
        else:
            path = self._run.working(self._epoch.number)
            create(path, self._form.working)
            self._disk.sync_folder(path.parent)
            file = self._file_at(path, 0)
            if old:
                inherited = self._take_over(old, file)
        claim = Claim.load(self._epoch.claim)
        segments = len(self._form.segmentation)
        header = Header(self._epoch.number, claim.id if claim else "", path.name, segments, self._writers)
        journal = Journal(self._disk, self._run.journal(self._epoch), header)
        kept = {record.segment for record in inherited}
        notes = [r for r in old.notes() if r.segment in kept and r.kind != Kind.KEPT] if old else []
        notes += file.placements(record.segment for record in inherited)
        journal.append([*notes, *inherited, Record(Kind.INHERITED, segment=len(inherited))])
        journal.sync()
        kept_checksums = [(record.segment, record.checksum) for record in inherited]
        self._remember(kept_checksums)
        file.mark(kept_checksums)
        for path in self._run.unfinished(self._epoch.number):
            if not path.name.startswith(f"{file.path.stem}."):
                path.unlink(missing_ok=True)
        self._epoch.require_newest()
        return file, journal

    def _file_at(self, path: Path, writer: int | None, content: Content | None = None) -> WorkingFile | Candidates:
        """Open a working file. content: a journal that says what is in it."""
        if self._form.keep is None:
            return WorkingFile(self._disk, path, self._form.outputs, self._form.segmentation)
        return Candidates(self._disk, path, self._form, writer, content.placements() if content else ())

    def _join(self, writer: int) -> tuple[WorkingFile | Candidates, Journal]:
        first = self._run.journal(self._epoch)
        content = read_journal(first)
        if content is None or not content.effective:
            raise HpcensError(f"{first} is not there yet", "the first writer opens a result: this is a fault of hpcens")
        working = self._run.path / content.header.working
        file = self._file_at(working, writer, content)
        journal = Journal(self._disk, journal_of(first, writer), content.header)
        self._remember((record.segment, record.checksum) for record in content.written().values())
        return file, journal

    def _take_over(self, old: Content, file: WorkingFile | Candidates) -> list[Record]:
        """Copy the journalled extents whose bytes still are what the journal says; the rest is scored again."""
        path = self._run.path / old.header.working
        if not path.exists():
            return []
        source = self._file_at(path, None, old)
        copy: Any = source.copy  # into a file of its own kind
        records = [record for record in old.written().values() if copy(record.segment, file) == record.checksum]
        source.close()
        file.sync()
        return records

    def write(
        self,
        segment: int,
        values: Mapping[str, Array],
        reduced: Mapping[int, int],
        bad: Mapping[int, Sequence[Bad]] = _NO_BAD_ROWS,
        noted: Sequence[Record] = (),
    ) -> None:
        """Write one segment; it counts once `flush` has returned.

        values   output name to (rows of the segment, *output shape)
        reduced  member index to batch size, where it was smaller than planned
        bad      member index to rows that it could not score, and were masked for it
        noted    what an earlier phase noted of the segment, of its members
        """
        self._pending[segment] = self._file.write(segment, values)
        start, _ = self._form.segmentation.bounds(segment)
        smaller = [Record(Kind.REDUCED, segment, member=member, batch=batch) for member, batch in reduced.items()]
        masked = [
            Record(MASKED[rows.cause], segment, start + rows.rows[0], member, len(rows.rows))
            for member, causes in bad.items()
            for rows in causes
        ]
        self._notes[segment] = [*noted, *smaller, *masked, *self._file.placements([segment])]

    def take(self, segment: int, file: WorkingFile, checksum: int, noted: Sequence[Record]) -> bool:
        """Copy a segment that another file holds; return whether its bytes are those of the checksum.

        noted  what is noted of the segment there
        It counts once `flush` has returned; where its bytes are others, it stays missing.
        """
        assert isinstance(self._file, WorkingFile), "parts are of a result that keeps all rows"
        if file.copy(segment, self._file) != checksum:
            return False
        self._pending[segment], self._notes[segment] = checksum, list(noted)
        return True

    def flush(self, segments: Sequence[int]) -> None:
        """Make written segments durable, in the order that survives any kill."""
        start = time.monotonic()
        self._file.sync()
        records = [
            record
            for segment in segments
            for record in (*self._notes.pop(segment), Record(Kind.WRITTEN, segment, self._pending[segment]))
        ]
        self._journal.append(records)
        self._journal.sync()
        self.syncing += time.monotonic() - start
        done = [(segment, self._pending.pop(segment)) for segment in segments]
        self._remember(done)
        self._file.mark(done)

    def _remember(self, checksums: Iterable[tuple[int, int]]) -> None:
        for segment, checksum in checksums:
            self._checksums[segment], self._durable[segment] = checksum, True

    def revoke_damaged(self) -> list[int]:
        """Compare this writer's segments with their checksums as read back; what differs is missing again."""
        durable = np.flatnonzero(self._mine & self._durable).tolist()
        damaged = [segment for segment in durable if self._file.checksum(segment) != self._checksums[segment]]
        if damaged:
            self._journal.append([Record(Kind.REVOKED, segment) for segment in damaged])
            self._journal.sync()
            for segment in damaged:
                self._durable[segment] = False
                self._file.unmark(segment)
        return damaged

    def masked(self) -> list[tuple[int, Cause, int, int]]:
        """Count what was masked, over all epochs and writers: (member index, cause, rows, first row)."""
        content = read_journal(self._run.journal(self._epoch))
        return count_masked(content.notes() if content else ())

    def finish(self, output: Path, summary: Mapping[str, Any]) -> None:
        """Give the whole result its final name, once all other writers have closed.

        summary  what is known only at the end: times and counts
        Raises HpcensError where segments are missing, or a newer start has taken the run over; Incomplete where a
        column, which no segment's checksum covers, is not what was written: the next start copies all that is sound.
        """
        content = read_journal(self._run.journal(self._epoch))
        if missing := len(self._form.segmentation.numbers) - len(content.written() if content else ()):
            raise HpcensError(f"{missing} segments are missing", "run the same command again")
        if damaged := damaged_columns(self._file.path):
            raise Incomplete(f"{', '.join(damaged)} of {self._file.path} is not what was written", "run it again")
        file, form = self._file, self._form
        if isinstance(file, Candidates):
            placed = content.placements() if content else []
            file, form = file.chosen(placed, self._run.kept(self._epoch.number))
        file.summarise(summary)
        file.sync()
        whole = file.path
        if form.compression is not None and form.segmentation.rows:
            whole = self._run.packed(self._epoch.number)
            pack(self._disk, file, form, whole)
        self._epoch.require_newest()
        self._disk.rename(whole, output)
        if whole != self._file.path:
            for path in self._run.unfinished(self._epoch.number):
                path.unlink(missing_ok=True)

    def close(self) -> None:
        """End in order: this writer will not write again."""
        self._file.sync()
        self._file.close()
        self._journal.append([Record(Kind.CLOSED)])
        self._journal.sync()
        self._journal.close()
