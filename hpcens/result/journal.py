"""The journal: an append-only file of fixed-size records, one file per epoch, one writer each.

Where several ranks write a result, each has a file of its own, and the first one's says how many there are.
What was taken over is in the first; what follows of a segment is in one file alone. They are read as one.

A journal is complete in itself: it begins with what its epoch took over from earlier ones, closed
by an INHERITED record. A file without that record never took effect. So only the newest journal that
took effect counts, and whatever a survivor of an older epoch still appends to its own is ignored.
"""

from __future__ import annotations

import json
import struct
import time
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import astuple, dataclass
from enum import IntEnum
from pathlib import Path

from hpcens.files import MALFORMED, checked
from hpcens.result.disk import Disk

_MAGIC = b"hpcens journal 1\n"
_HEADER_BYTES = 1024
_RECORD = struct.Struct("<BxHIQQd")
_CRC = struct.Struct("<II")
RECORD_BYTES = _RECORD.size + _CRC.size


class Kind(IntEnum):
    """What a record says."""

    WRITTEN = 1
    """A segment is durable; `checksum` is that of its bytes."""
    REDUCED = 2
    """A member ran a segment in batches of `batch`, smaller than planned, for want of memory."""
    REVOKED = 3
    """A segment turned out damaged and is to be scored again."""
    INHERITED = 4
    """All records of earlier epochs are in; this journal takes effect. `segment` is their number."""
    CLOSED = 5
    """The epoch ended in order: its process writes no more."""
    MASKED_INPUT = 6
    """A member was fed NaN or infinity in `batch` rows of the segment; `checksum` is the first of them."""
    MASKED_OUTPUT = 7
    """The same, for rows for which it gave NaN or infinity."""
    MASKED_RAISED = 8
    """The same, for rows on which its preprocessing raised."""
    MASKED_CAST = 9
    """The same, for rows that hold numbers which the dtype they are cast to cannot."""
    KEPT = 10
    """Of the segment `batch` rows are candidates: they lie at `checksum` in the candidates of the writer `member`."""


_MASKED = (Kind.MASKED_INPUT, Kind.MASKED_OUTPUT, Kind.MASKED_RAISED, Kind.MASKED_CAST)
NOTES = (Kind.REDUCED, *_MASKED, Kind.KEPT)
"""Kinds of what is noted of a segment beside its checksum; they come before its WRITTEN record."""


@dataclass(frozen=True, slots=True)
class Record:
    """One record of a journal; what its fields mean depends on its kind.

    member  index in member order
    time    seconds since the epoch of the clock; 0: now
    """

    kind: Kind
    segment: int = 0
    checksum: int = 0
    member: int = 0
    batch: int = 0
    time: float = 0.0

    def pack(self) -> bytes:
        """Write the record as bytes of fixed length, a checksum at the end."""
        body = _RECORD.pack(self.kind, self.member, self.batch, self.segment, self.checksum, self.time or time.time())
        return body + _CRC.pack(zlib.crc32(body), 0)


@dataclass(frozen=True, slots=True)
class Header:
    """What a journal begins with.

    epoch     number of the start
    id        random id of the start
    working   name of the file whose bytes are journalled
    segments  number of segments of the result
    writers   number of journals of this start
    """

    epoch: int
    id: str
    working: str
    segments: int
    writers: int = 1


@dataclass(frozen=True, slots=True)
class Content:
    """A journal as read: its records up to the first that is not whole. torn: bytes that follow."""

    header: Header
    records: tuple[Record, ...]
    torn: int

    @property
    def effective(self) -> bool:
        """Whether what the start inherited is written down, so that this journal counts and earlier ones do not."""
        return any(record.kind == Kind.INHERITED for record in self.records)

    @property
    def closed(self) -> bool:
        """Whether nothing comes after: its last record closes it."""
        return bool(self.records) and self.records[-1].kind == Kind.CLOSED

    def written(self) -> dict[int, Record]:
        """Return the segments that are durable, with their records."""
        written: dict[int, Record] = {}
        for record in self.records:
            if record.kind == Kind.WRITTEN:
                written[record.segment] = record
            elif record.kind == Kind.REVOKED:
                written.pop(record.segment, None)
        return written

    def twice(self) -> list[int]:
        """Return the segments journalled again without having been revoked: there must be none."""
        seen: set[int] = set()
        twice = []
        for record in self.records:
            if record.kind == Kind.WRITTEN:
                if record.segment in seen:
                    twice.append(record.segment)
                seen.add(record.segment)
            elif record.kind == Kind.REVOKED:
                seen.discard(record.segment)
        return twice

    def placements(self) -> list[Record]:
        """Return where the candidates lie of segments that stand."""
        return [record for record in self.notes() if record.kind == Kind.KEPT]

    def notes(self) -> list[Record]:
        """Return what is noted of segments that stand, as they were written last."""
        noted: dict[int, list[Record]] = {}
        fresh: dict[int, list[Record]] = {}
        for record in self.records:
            if record.kind in NOTES:
                fresh.setdefault(record.segment, []).append(record)
            elif record.kind == Kind.WRITTEN:
                noted[record.segment] = fresh.pop(record.segment, [])
            elif record.kind == Kind.REVOKED:
                noted.pop(record.segment, None)
        return [record for segment in sorted(noted) for record in noted[segment]]


class Journal:
    """The journal of this epoch, open for appending."""

    def __init__(self, disk: Disk, path: Path, header: Header) -> None:
        """Create the journal, which must not exist; its header is durable on return."""
        self._disk = disk
        self._file = disk.open(path, create=True)
        text = _MAGIC + json.dumps(astuple(header)).encode()
        disk.write(self._file, text.ljust(_HEADER_BYTES), 0)
        self._end = _HEADER_BYTES
        disk.sync(self._file)
        disk.sync_folder(path.parent)

    def append(self, records: Iterable[Record]) -> None:
        """Add the records; they count once `sync` has returned."""
        data = b"".join(record.pack() for record in records)
        self._disk.write(self._file, data, self._end)
        self._end += len(data)

    def sync(self) -> None:
        """Return once all records are durable."""
        self._disk.sync(self._file)

    def close(self) -> None:
        """Close the journal; nothing is added to it."""
        self._disk.close(self._file)


def journal_of(first: Path, writer: int) -> Path:
    """Return the path of the journal of one of an epoch's writers, counted from 0; `first` is that of the first."""
    return first.with_name(f"{first.name}-{writer}") if writer else first


def read_journal(path: Path) -> Content | None:
    """Read an epoch's journals as one; None where the first is missing or its header is not whole.

    path  path of the first. It counts as closed once all are; until then none of its writers is known to be gone.
    """
    first = _read(path)
    if first is None or first.header.writers == 1:
        return first
    contents = [first, *(_read(journal_of(path, writer)) for writer in range(1, first.header.writers))]
    readable = [content for content in contents if content is not None]
    records = [record for content in readable for record in content.records if record.kind != Kind.CLOSED]
    if len(readable) == len(contents) and all(content.closed for content in readable):
        records.append(first.records[-1])
    return Content(first.header, tuple(records), sum(content.torn for content in readable))


def _read(path: Path) -> Content | None:
    try:
        data = path.read_bytes()
    except OSError:
        return None
    head, body = data[:_HEADER_BYTES], data[_HEADER_BYTES:]
    if not head.startswith(_MAGIC) or len(head) < _HEADER_BYTES:
        return None
    try:
        header = checked(Header(*json.loads(head[len(_MAGIC) :])))
    except MALFORMED:
        return None
    records = list(_records(body))
    return Content(header, tuple(records), len(body) - len(records) * RECORD_BYTES)


def _records(body: bytes) -> Iterator[Record]:
    """Yield records up to the first that is not whole."""
    for start in range(0, len(body) - RECORD_BYTES + 1, RECORD_BYTES):
        fields = body[start : start + _RECORD.size]
        (crc, _) = _CRC.unpack_from(body, start + _RECORD.size)
        if zlib.crc32(fields) != crc:
            return
        kind, member, batch, segment, checksum, when = _RECORD.unpack(fields)
        yield Record(Kind(kind), segment, checksum, member, batch, when)


def has_written(path: Path) -> bool:
    """Return whether a journal says of any segment that it is, or once was, durable. Read no further than needed."""
    try:
        body = path.read_bytes()[_HEADER_BYTES:]
    except OSError:
        return False
    return any(record.kind == Kind.WRITTEN for record in _records(body))
