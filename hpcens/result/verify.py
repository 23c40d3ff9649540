"""Verification: a result held against its journal, its checksums and its members, without scoring anything."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from hpcens.errors import DataError, HpcensError
from hpcens.members.kept_digests import digest, digests_kept
from hpcens.processes.isolation import NoAnswer, isolated
from hpcens.result.finished import Finished
from hpcens.result.journal import Content, read_journal
from hpcens.result.result import standing
from hpcens.runs import RunDirectory


@dataclass(slots=True)
class Verification:
    """What was looked at and what is wrong; sound if nothing is.

    journal  which journal the result was compared with
    members  member name to what its weights are now
    faults   a line for each fault
    """

    rows: int = 0
    segments: int = 0
    journal: str = ""
    members: dict[str, str] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)

    @property
    def sound(self) -> bool:
        """Whether no fault was found."""
        return not self.faults


def verify(path: Path) -> Verification:
    """Check that every row is journalled exactly once, that bytes equal the checksums, and members' weights.

    A process of its own reads the file: libhdf5 may crash on one that is damaged.
    Raises DataError where the file is missing, is no result of hpcens, or cannot be read at all.
    """
    [(_, found)] = verify_each([path])
    if isinstance(found, HpcensError):
        raise found
    return found


def verify_each(paths: Sequence[Path]) -> Iterator[tuple[Path, Verification | HpcensError]]:
    """Check one result after another, see `verify`: yield each with what was found, or what `verify` would raise.

    One process reads them all. Where it ends, the file at hand has another chance in a new one: what a file does to
    the process, the file after it may suffer. The first file of a process is to blame for its end.
    """
    left = list(paths)
    while left:
        answered = 0
        with isolated(partial(_verified, tuple(left))) as process:
            for path in left:
                try:
                    found: Verification | HpcensError = process.answer()
                except NoAnswer as silence:
                    if answered:
                        break
                    found = DataError(
                        f"result {path}: the process that read it {silence.ending}{silence.quotation}",
                        "the file is damaged, or memory was used up (free -h): score it again into another output",
                    )
                yield path, found
                answered += 1
        left = left[answered:]


def _verified(paths: Sequence[Path]) -> Iterator[Verification | HpcensError]:
    with digests_kept():  # weights of gigabytes are read once for all results
        for path in paths:
            try:
                yield look_through(path)
            except HpcensError as fault:
                yield fault


def look_through(path: Path) -> Verification:
    """Do in this process what `verify` has done by another."""
    with contextlib.closing(Finished(path)) as result:
        return _looked_through(result)


def _looked_through(result: Finished) -> Verification:
    verification = Verification(result.segmentation.rows, len(result.segmentation))
    for segment in np.flatnonzero(result.written != 1).tolist():
        verification.faults.append(f"rows {result.rows(segment)} were never marked as written")
    verification.faults.extend(_bytes(result))
    if not result.described_as_written:
        verification.faults.append(
            "what it says of itself is not what was written: attributes, class names or documents"
        )
    verification.faults.extend(f"{column} is not what was written" for column in result.broken_columns)
    verification.faults.extend(_journal(result, verification))
    verification.faults.extend(_members(result, verification))
    return verification


def _bytes(result: Finished) -> Iterator[str]:
    for segment in range(len(result.segmentation)):
        try:
            if result.checksum(segment) != result.checksums[segment]:
                yield f"rows {result.rows(segment)} differ from their checksum in the file"
        except DataError as error:
            yield error.what


def _journal(result: Finished, verification: Verification) -> Iterator[str]:
    run = RunDirectory.of(result.path)
    content = _of_result(run) if run.fixed_fingerprint in (None, result.fingerprint) else None
    if content is None:
        verification.journal = f"not found in {run.path}; checked against the checksums in the file alone"
        return
    verification.journal = f"{run.path}, start {content.header.epoch}"
    written = content.written()
    if (kept := result.kept) is not None:
        yield from _journal_of_kept(content, int(kept["of"]))
        return
    missing = [segment for segment in range(verification.segments) if segment not in written]
    unknown = [segment for segment in written if segment >= verification.segments]
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


def _of_result(run: RunDirectory) -> Content | None:
    """Read the newest journal that is whole; where none is, the newest that took effect.

    A start that took a living one for dead, and was killed while it copied, left a newer one that is not whole.
    """
    every = (read_journal(run.journal(epoch)) for epoch in run.epochs())
    whole = (content for content in every if content is not None and len(content.written()) == content.header.segments)
    return next((content for content in whole if content.effective), None) or standing(run)


def _journal_of_kept(content: Content, rows: int) -> Iterator[str]:
    """Say which of all segments that were scored are not journalled once. rows: that were scored."""
    missing = content.header.segments - len(content.written())
    if missing:
        yield f"{missing} of {content.header.segments} segments of the {rows:,} rows scored are not in the journal"
    if twice := content.twice():
        yield f"segments {', '.join(map(str, twice))} are in the journal twice"


def _members(result: Finished, verification: Verification) -> Iterator[str]:
    for name, member in json.loads(result.attributes["members"]).items():
        if not member["path"]:  # its factory loads them, over a network perhaps
            verification.members[name] = "loaded by its factory, not looked at"
            continue
        weights = Path(member["path"])
        if not weights.is_file():
            verification.members[name] = "weights are gone"
            yield f"member {name}: {weights} is gone, so its digest cannot be checked"
            continue
        verification.members[name] = "as scored" if digest(weights) == member["weights"] else "changed"
        if verification.members[name] == "changed":
            yield f"member {name}: {weights} is not what was scored with"
