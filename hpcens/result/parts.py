"""Parts of a dataset, each scored into a file of its own: opened where they are whole."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpcens.errors import DataError
from hpcens.result.disk import Disk
from hpcens.result.finished import fingerprint_of
from hpcens.result.form import Form
from hpcens.result.journal import Record
from hpcens.result.result import standing
from hpcens.result.working import WorkingFile
from hpcens.runs import RunDirectory
from hpcens.vocabulary import Segmentation

_GROUP_BYTES = 64 << 20  # that are copied, and become durable, together


@dataclass(frozen=True, slots=True)
class Part:
    """A part of the dataset that was scored by itself.

    file          its complete result
    segmentation  of the whole dataset, with the part's segments
    """

    file: Path
    segmentation: Segmentation


@dataclass(frozen=True, slots=True)
class OpenPart:
    """A part, open for reading.

    written, notes  segment → what its journal says of it
    """

    file: WorkingFile
    written: Mapping[int, Record]
    notes: Mapping[int, Sequence[Record]]


def open_part(part: Part, form: Form, made_of: Any, disk: Disk) -> OpenPart | None:
    """Open a part; None where its file or its journal is missing, damaged or another's.

    form     of the whole; made_of: its fingerprint
    """
    content = standing(RunDirectory.of(part.file))
    if content is None or fingerprint_of(part.file) != made_of:
        return None
    try:
        file = WorkingFile(disk, part.file, form.outputs, part.segmentation)
    except DataError:
        return None
    notes: dict[int, list[Record]] = {}
    for record in content.notes():
        notes.setdefault(record.segment, []).append(record)
    return OpenPart(file, content.written(), notes)


def in_groups(segments: Sequence[int], form: Form) -> Iterator[list[int]]:
    """Yield segments in groups of some megabytes."""
    row_bytes = sum(output.row_bytes for output in form.outputs)
    size = max(1, _GROUP_BYTES // max(1, row_bytes * form.segmentation.segment_rows))
    for start in range(0, len(segments), size):
        yield list(segments[start : start + size])
