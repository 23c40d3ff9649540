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
    """A file and the result it is scored into.

    key     names it in the folder of claims: a digest of the result's path below the output folder
    bytes   of the file when it was listed
    """

    key: str
    dataset: str
    output: str
    bytes: int


@dataclass(frozen=True, slots=True)
class UnitList:
    """The units of a command, the largest first.

    number   of the list within its folder, from 1
    job      JSON of the first unit's job; the others' differ in dataset and output
    made_of  what every result is made of but data and numerics: name → digest
    row      shapes and dtypes of a row of the file on which the ensemble was tried, as text; empty: not known
    """

    number: int
    job: str
    made_of: Mapping[str, str]
    units: tuple[Unit, ...]
    row: str = ""

    def to_json(self) -> str:
        """Write the list as JSON, with the version of its format."""
        units = [asdict(unit) for unit in self.units]
        made_of = dict(self.made_of)
        return json.dumps({"format": 1, "job": self.job, "made_of": made_of, "row": self.row, "units": units})

    @staticmethod
    def from_json(raw: Mapping[str, Any], number: int) -> UnitList:
        """Return the list of a file's object. Raises as `files.MALFORMED` where it is none."""
        if raw["format"] != 1:
            raise ValueError(f"it has format {raw['format']}, and this version reads format 1")
        units = tuple(checked(Unit(**unit)) for unit in raw["units"])
        return UnitList(number, str(raw["job"]), dict(raw["made_of"]), units, str(raw.get("row", "")))

    def same_as(self, other: UnitList | None) -> bool:
        """Whether another list says the same."""
        return other is not None and (self.job, self.made_of, self.units) == (other.job, other.made_of, other.units)


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
