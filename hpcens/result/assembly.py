"""Assembly: the parts of a dataset, each scored into a file of its own, are put together into the result.

It is one start of the run: behind its fence, journalled segment by segment, gone on with where it was ended.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpcens.errors import DataError, Incomplete
from hpcens.result.disk import Disk
from hpcens.result.finished import fingerprint_of
from hpcens.result.form import Form
from hpcens.result.journal import Record
from hpcens.result.result import Result, standing
from hpcens.result.working import WorkingFile
from hpcens.runs import AGAIN, Epoch, RunDirectory
from hpcens.vocabulary import Segmentation

_GROUP_BYTES = 64 << 20  # that become durable together


@dataclass(frozen=True, slots=True)
class Part:
    """A part of the dataset that was scored by itself.

    file          its complete result
    segmentation  of the whole dataset, with the part's segments
    """

    file: Path
    segmentation: Segmentation


class Assembly:
    """The result of a run, put together of its parts.

    run, epoch  of the result, and the start that does it
    form        of the result
    disk        what to write with; by default the machine's
    """

    def __init__(self, run: RunDirectory, epoch: Epoch, form: Form, disk: Disk | None = None) -> None:
        self._form = form
        self._disk = disk or Disk()
        self._result = Result.open(run, epoch, form, self._disk)
        row_bytes = sum(output.row_bytes for output in form.outputs)
        self._group = max(1, _GROUP_BYTES // max(1, row_bytes * form.segmentation.segment_rows))

    def take(self, part: Part) -> bool:
        """Copy what is missing of a part; return whether it was whole: its file, its journal and every byte."""
        missing = sorted(set(self._result.missing).intersection(part.segmentation.numbers))
        if not missing:
            return True
        content = standing(RunDirectory.of(part.file))
        if content is None or fingerprint_of(part.file) != json.loads(self._form.attributes["fingerprint"]):
            return False
        try:
            file = WorkingFile(self._disk, part.file, self._form.outputs, part.segmentation)
        except DataError:
            return False
        written = content.written()
        notes: dict[int, list[Record]] = {}
        for record in content.notes():
            notes.setdefault(record.segment, []).append(record)
        try:
            for group in _groups(missing, self._group):
                sound = [
                    segment
                    for segment in group
                    if segment in written
                    and self._result.take(segment, file, written[segment].checksum, notes.get(segment, ()))
                ]
                self._result.flush(sound)
                if sound != group:
                    return False
        finally:
            file.close()
        return True

    def masked(self) -> list[Any]:
        """Count what was masked, as `Result.masked` does."""
        return self._result.masked()

    def finish(self, output: Path, summary: Mapping[str, Any]) -> None:
        """Read all back, and give the result its name.

        Raises Incomplete where what was copied reads back damaged: the next start copies it again.
        """
        if damaged := self._result.revoke_damaged():
            raise Incomplete(f"{len(damaged)} segments that were copied read back damaged", AGAIN)
        self._result.finish(output, summary)

    def close(self) -> None:
        """End in order: it will not write again."""
        self._result.close()


def _groups(segments: Sequence[int], size: int) -> Iterator[list[int]]:
    for start in range(0, len(segments), size):
        yield list(segments[start : start + size])
