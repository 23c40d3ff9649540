"""Verify: hold a result against its journal, its checksums and its members, without scoring anything."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from hpcens.errors import DataError
from hpcens.files import digest_file, read_json
from hpcens.result.finished import Finished
from hpcens.result.result import standing
from hpcens.runs import RunDirectory


@dataclass(slots=True)
class Verification:
    """What was looked at and what was found wrong; sound if nothing was."""

    rows: int = 0
    segments: int = 0
    journal: str = ""
    members: dict[str, str] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)

    @property
    def sound(self) -> bool:
        return not self.faults


def verify(path: Path) -> Verification:
    """Every row journalled exactly once, bytes equal to the checksums, members' weights as they were.

    Raises DataError where the file is missing or is no result of hpcens.
    """
    result = Finished(path)
    found = Verification(result.segmentation.rows, len(result.segmentation))
    for segment in np.flatnonzero(result.written != 1).tolist():
        found.faults.append(f"rows {result.rows(segment)} were never marked as written")
    found.faults.extend(_bytes(result))
    found.faults.extend(f"{column} is not what was written" for column in result.broken_columns)
    found.faults.extend(_journal(result, found))
    found.faults.extend(_members(result, found))
    result.close()
    return found


def _bytes(result: Finished) -> Iterator[str]:
    for segment in range(len(result.segmentation)):
        try:
            if result.checksum(segment) != result.checksums[segment]:
                yield f"rows {result.rows(segment)} differ from their checksum in the file"
        except DataError as error:
            yield error.what


def _journal(result: Finished, found: Verification) -> Iterator[str]:
    run = RunDirectory.of(result.path)
    content = standing(run) if read_json(run.fingerprint) in (None, result.fingerprint) else None
    if content is None:
        found.journal = f"not found in {run.path}; checked against the checksums in the file alone"
        return
    found.journal = f"{run.path}, epoch {content.header.epoch}"
    written = content.written()
    missing = [segment for segment in range(found.segments) if segment not in written]
    unknown = [segment for segment in written if segment >= found.segments]
    other = [
        segment
        for segment, record in written.items()
        if segment not in unknown and record.checksum != result.checksums[segment]
    ]
    for what, segments in (
        ("are not in the journal", missing),
        ("are in the journal twice", [segment for segment in content.twice() if segment not in unknown]),
        ("differ from their checksum in the journal", other),
    ):
        for segment in segments:
            yield f"rows {result.rows(segment)} {what}"
    for segment in unknown:
        yield f"the journal has a segment {segment} that the file has not"


def _members(result: Finished, found: Verification) -> Iterator[str]:
    for name, member in json.loads(result.attributes["members"]).items():
        weights = Path(member["path"])
        if not weights.exists():
            found.members[name] = "weights are gone"
            yield f"member {name}: {weights} is gone, so its digest cannot be checked"
            continue
        found.members[name] = "as scored" if digest_file(weights) == member["weights"] else "changed"
        if found.members[name] == "changed":
            yield f"member {name}: {weights} is not what was scored with"
