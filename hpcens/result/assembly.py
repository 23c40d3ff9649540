"""Assembly: the parts of a dataset, each scored into a file of its own, are put together into the result.

It is one start of the run: behind its fence, journalled segment by segment, gone on with where it was ended. A result
that is compressed is written as it will be, in one pass over the parts; one that was ended is begun again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hpcens.errors import Incomplete
from hpcens.result.disk import Disk
from hpcens.result.form import Form
from hpcens.result.packed_assembly import PackedAssembly
from hpcens.result.parts import Part, in_groups, open_part
from hpcens.result.result import Result
from hpcens.runs import AGAIN, Epoch, RunDirectory


def begin_assembly(run: RunDirectory, epoch: Epoch, form: Form, disk: Disk | None = None) -> Assembly | PackedAssembly:
    """Begin to put the result of a run together of its parts.

    run, epoch  of the result, and the start that does it
    form        of the result
    disk        what to write with; by default the machine's
    """
    packed = form.compression is not None and form.segmentation.rows > 0
    return (PackedAssembly if packed else Assembly)(run, epoch, form, disk or Disk())


class Assembly:
    """The result of a run, put together of its parts; parameters as those of `begin_assembly`."""

    def __init__(self, run: RunDirectory, epoch: Epoch, form: Form, disk: Disk) -> None:
        self._form = form
        self._disk = disk
        self._result = Result.open(run, epoch, form, disk)

    def take(self, part: Part) -> bool:
        """Copy what is missing of a part; return whether it was whole: its file, its journal and every byte."""
        missing = sorted(set(self._result.missing).intersection(part.segmentation.numbers))
        if not missing:
            return True
        opened = open_part(part, self._form, json.loads(self._form.attributes["fingerprint"]), self._disk)
        if opened is None:
            return False
        file, written, notes = opened.file, opened.written, opened.notes
        try:
            for group in in_groups(missing, self._form):
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
