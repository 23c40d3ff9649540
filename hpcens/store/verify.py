"""Verify: hold a result against its journal, its checksums and its members, without scoring anything."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from hpcens.errors import DataError
from hpcens.fingerprint import digest_file
from hpcens.rundir import RunDirectory
from hpcens.segments import Segmentation
from hpcens.store.disk import Disk
from hpcens.store.result import standing
from hpcens.store.working import Output, WorkingFile


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


def fingerprint_of(path: Path) -> dict[str, Any] | None:
    """The fingerprint a result carries; None where the file is not a result of hpcens."""
    try:
        with h5py.File(path, "r", locking=False) as file:
            return json.loads(file.attrs["fingerprint"])  # type: ignore[no-any-return]
    except (OSError, KeyError, ValueError):
        return None


def verify(path: Path) -> Verification:
    """Every row journalled exactly once, bytes equal to the checksums, members' weights as they were.

    Raises DataError where the file is missing or is no result of hpcens.
    """
    if not path.exists():
        raise DataError(f"{path}: no such file", "a result has its name only once it is complete: hpcens status")
    if fingerprint_of(path) is None:
        raise DataError(f"{path} is not a result of hpcens", "check the path")
    found = Verification()
    file, segmentation, table, written = _open(path)
    found.rows, found.segments = segmentation.rows, len(segmentation)
    for segment in np.flatnonzero(written != 1).tolist():
        found.faults.append(f"rows {_rows(segmentation, segment)} were never marked as written")
    for segment in range(len(segmentation)):
        if file.checksum(segment) != table[segment]:
            found.faults.append(f"rows {_rows(segmentation, segment)} differ from their checksum in the file")
    file.close()
    found.faults.extend(_journal(path, segmentation, table, found))
    found.faults.extend(_members(path, found))
    return found


def _open(path: Path) -> tuple[WorkingFile, Segmentation, np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    with h5py.File(path, "r", locking=False) as file:
        names = [str(name) for name in file.attrs["outputs"]]
        outputs = tuple(Output(name, tuple(file[name].shape[1:]), file[name].dtype.str) for name in names)
        segmentation = Segmentation(file[names[0]].shape[0], int(file.attrs["segment_rows"]))
        table, written = file["hpcens/checksums"][:], file["hpcens/written"][:]
    return WorkingFile(_ReadOnly(), path, outputs, segmentation), segmentation, table, written


class _ReadOnly(Disk):
    def open(self, path: Path, *, create: bool = False) -> int:
        import os

        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)


def _rows(segmentation: Segmentation, segment: int) -> str:
    start, stop = segmentation.bounds(int(segment))
    return f"{start}–{stop - 1}"


def _journal(path: Path, segmentation: Segmentation, table: np.ndarray[Any, Any], found: Verification) -> Iterator[str]:
    run = RunDirectory.of(path)
    content = standing(run)
    if content is None:
        found.journal = f"not found in {run.path}; checked against the checksums in the file alone"
        return
    found.journal = f"{run.path}, epoch {content.header.epoch}"
    written = content.written()
    missing = [segment for segment in range(len(segmentation)) if segment not in written]
    unknown = [segment for segment in written if segment >= len(segmentation)]
    other = [
        segment for segment, record in written.items() if segment not in unknown and record.checksum != table[segment]
    ]
    for what, segments in (
        ("are not in the journal", missing),
        ("are in the journal twice", content.twice()),
        ("differ from their checksum in the journal", other),
    ):
        for segment in segments:
            yield f"rows {_rows(segmentation, segment)} {what}"
    for segment in unknown:
        yield f"the journal has a segment {segment} that the file has not"


def _members(path: Path, found: Verification) -> Iterator[str]:
    with h5py.File(path, "r", locking=False) as file:
        members = json.loads(file.attrs["members"])
    for name, member in members.items():
        weights = Path(member["path"])
        if not weights.exists():
            found.members[name] = "weights are gone"
            yield f"member {name}: {weights} is gone, so its digest cannot be checked"
            continue
        found.members[name] = "as scored" if digest_file(weights) == member["weights"] else "changed"
        if found.members[name] == "changed":
            yield f"member {name}: {weights} is not what was scored with"
