"""Select runs and folders of many files by paths, folders and patterns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from glob import glob, has_magic
from pathlib import Path

from hpcens.errors import UsageError
from hpcens.runs import RunDirectory
from hpcens.runs.status import is_run, run_of
from hpcens.units.directory import UnitsDirectory, units_at

Selected = RunDirectory | UnitsDirectory


def select(paths: Sequence[Path]) -> list[Selected]:
    """Return what paths mean, each once: a run, by itself or by its output; many files; all that lies in a folder.

    Raises UsageError where a path or a pattern means nothing.
    """
    found: dict[Path, Selected] = {}
    for path in matches(paths):
        for item in _meant(path):
            found.setdefault(item.path.absolute(), item)
    return list(found.values())


def matches(paths: Sequence[Path]) -> Iterator[Path]:
    """Yield paths, those of a pattern in its place. Raises UsageError where a pattern matches nothing."""
    for path in paths:
        if path.exists() or not has_magic(str(path)):
            yield path
            continue
        files = sorted(glob(str(path)))
        if not files:
            raise UsageError(f"nothing matches {path}", "check the pattern; relative ones start at the current folder")
        yield from map(Path, files)


def _meant(path: Path) -> list[Selected]:
    if (units := units_at(path)) is not None:
        return [units]
    if not path.is_dir() or is_run(RunDirectory(path)):
        return [run_of(path)]
    inside = sorted(path.rglob("*.run"))
    many = [UnitsDirectory(below) for below in inside if (below / "lists").is_dir()]
    own = [path for units in many for path in (units.path.with_suffix(""), units.path)]
    runs = [run for below in inside if is_run(run := RunDirectory(below)) and not any(map(below.is_relative_to, own))]
    if not many and not runs:
        raise UsageError(f"{path} is no run directory, and none is in it", "it lies beside the output: OUTPUT.run")
    return [*many, *runs]


def results_of(units: UnitsDirectory) -> tuple[list[Path], list[str]]:
    """Return the results that are there, and the files of the newest list that have none."""
    listed = units.newest_list
    if listed is not None and listed.whole:
        return [], ["all rows of the dataset"]
    files = listed.units if listed is not None else ()
    there = [Path(unit.output) for unit in files if Path(unit.output).exists()]
    return there, [unit.dataset for unit in files if not Path(unit.output).exists()]
