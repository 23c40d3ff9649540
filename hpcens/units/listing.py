"""List the units of a command: the files it names, each with the place of its own result."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from glob import glob, has_magic
from pathlib import Path
from typing import Any

from hpcens.errors import DataError, UsageError
from hpcens.files import checked
from hpcens.shell import has_control_characters

RESULT_ENDING = ".predictions.h5"
"""What a result's name ends in; a pattern leaves such files out."""


@dataclass(frozen=True, slots=True)
class Unit:
    """What one world works on at a time: a file and the result it is scored into, or a part of a dataset's work.

    Of a dataset that worlds share it is a block, the plan of all, or the result that is put together of the blocks.

    key       names it in the folder of claims: a digest, of a file of its result's path below the output folder
    dataset   the file; else what it is, in words
    bytes     of the file when it was listed; of the block's rows
    segments  of the dataset: the block's first, and the one after its last; of the plan (0, 0). None: all
    rows      of the block; of a file 0: they are not known
    """

    key: str
    dataset: str
    output: str
    bytes: int
    segments: tuple[int, int] | None = None
    rows: int = 0

    @property
    def name(self) -> str:
        """The file as seen from the current folder, or what it is in words."""
        return os.path.relpath(self.dataset) if self.dataset.startswith(os.sep) else self.dataset


@dataclass(frozen=True, slots=True)
class UnitList:
    """The units of a command, the largest first.

    number   of the list within its folder, from 1
    job      JSON of the first unit's job; the others' differ in dataset and output
    made_of  what every result is made of but data and numerics: name → digest
    row      shapes and dtypes of a row of the file on which the ensemble was tried, as text; empty: not known
    whole    the result, of a dataset that worlds share; empty: every unit is a file with a result of its own
    fingerprint  digest of that under which its blocks are scored; empty: it is yet to be fixed
    worlds   that were asked for when it was first listed, by which blocks are cut
    """

    number: int
    job: str
    made_of: Mapping[str, str]
    units: tuple[Unit, ...]
    row: str = ""
    whole: str = ""
    fingerprint: str = ""
    worlds: int = 1

    def to_json(self) -> str:
        """Write the list as JSON, with the version of its format."""
        units = [asdict(unit) for unit in self.units]
        own = {"format": 1, "job": self.job, "made_of": dict(self.made_of), "row": self.row, "units": units}
        shared = {"whole": self.whole, "fingerprint": self.fingerprint, "worlds": self.worlds}
        return json.dumps(own | (shared if self.whole else {}))

    @staticmethod
    def from_json(raw: Mapping[str, Any], number: int) -> UnitList:
        """Return the list of a file's object. Raises as `files.MALFORMED` where it is none."""
        if raw["format"] != 1:
            raise ValueError(f"it has format {raw['format']}, and this version reads format 1")
        own = str(raw["job"]), dict(raw["made_of"]), tuple(map(_unit, raw["units"]))
        row, whole, fingerprint = (str(raw.get(name, "")) for name in ("row", "whole", "fingerprint"))
        return checked(UnitList(number, *own, row, whole, fingerprint, raw.get("worlds", 1)))

    def same_as(self, other: UnitList | None) -> bool:
        """Whether another list says the same."""
        return other is not None and (self.job, self.made_of, self.units) == (other.job, other.made_of, other.units)


def _unit(raw: Mapping[str, Any]) -> Unit:
    segments = raw.get("segments")
    return checked(Unit(**{**raw, "segments": None if segments is None else (int(segments[0]), int(segments[1]))}))


def list_units(arguments: Sequence[str], folder: Path, limit: int | None = None) -> tuple[Unit, ...]:
    """Return the units that a command line names, the largest first, ties as they are named.

    The results' paths below the folder mirror those of the files: below the part of a pattern that has no wildcards,
    or below the current folder, where a file is named that lies there; elsewhere a file's name alone counts.

    arguments  files and patterns
    folder     of the results, absolute
    limit      rows that are scored of each, which is part of the results' names; None: all
    Raises DataError where a pattern matches nothing, UsageError where two results would have one name.
    """
    first = "" if limit is None else f".first-{limit}"
    taken: dict[Path, Path] = {}
    units = []
    for path, base in _files(arguments):
        place = path.relative_to(base)
        output = folder / place.with_name(f"{place.stem}{first}{RESULT_ENDING}")
        if (other := taken.get(output)) == path:
            raise UsageError(f"named more than once: {path}", "name every file once")
        if other is not None:
            raise UsageError(
                f"{other} and {path} would both be scored into {output}",
                "name them by a quoted pattern with wildcards for what differs, as 'day-*/part-*.h5'; or rename one",
            )
        if path.is_relative_to(folder.with_name(f"{folder.name}.run")):
            raise UsageError(f"{path} lies in the records of the runs themselves", "choose another pattern")
        taken[output] = path
        key = hashlib.sha256(os.fsencode(output.relative_to(folder))).hexdigest()[:16]
        units.append(Unit(key, str(path), str(output), _size(path)))
    return tuple(sorted(units, key=lambda unit: -unit.bytes))


def _size(path: Path) -> int:
    """Return the file's bytes; 0 where it cannot be looked at, which fails when it is scored."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _files(arguments: Sequence[str]) -> list[tuple[Path, Path]]:
    """Each file with the folder below which its path is mirrored; those of a pattern by name."""
    here = Path.cwd()
    found: list[tuple[Path, Path]] = []
    for argument in arguments:
        if Path(argument).exists() or not has_magic(argument):
            path = _absolute(argument)
            found.append((path, here if path.is_relative_to(here) else path.parent))
            continue
        matches = sorted(path for path in glob(argument) if not path.endswith(RESULT_ENDING))
        if not matches:
            raise DataError(
                f"no file matches {argument}", "check the pattern; relative ones start at the current folder"
            )
        base = _absolute(_fixed_part(argument))
        found += [(_absolute(match), base) for match in matches]
    return found


def _fixed_part(pattern: str) -> str:
    """Return the folders with which a pattern begins that have no wildcards."""
    parts = Path(pattern).parts
    fixed = next(number for number, part in enumerate(parts) if has_magic(part))
    return os.path.join(".", *parts[:fixed])


def _absolute(path: str) -> Path:
    """Return the path from the root on, links kept. Raises UsageError where it holds control characters."""
    text = os.path.abspath(path)
    if has_control_characters(text):
        raise UsageError(f"the path {text} holds line breaks or other control characters", "rename it")
    return Path(text)
