"""Job: the configuration, and what a command line adds to it."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Sequence
from glob import glob, has_magic
from pathlib import Path

from hpcens.config import RESULT_SUFFIX, default_output, find, load
from hpcens.errors import DataError, UsageError
from hpcens.files import require_folder
from hpcens.shell import has_control_characters, listed
from hpcens.specs import Job, RunSpec


def job_from(
    datasets: Sequence[str],
    *,
    config: Path | None = None,
    limit: int | None = None,
    plan: Path | None = None,
    trace: Path | None = None,
) -> Job:
    """Return the job that files and options of a command line ask for; all its paths are absolute.

    datasets  files and patterns, as `dataset_files` takes them
    config    the configuration; None: the one that `find` finds
    limit     score only so many rows
    plan      a plan whose batch and segment sizes are kept
    trace     where to write what every rank did when
    Raises the first error in them.
    """
    return job_under(load(find(config)), datasets, limit=limit, plan=plan, trace=trace)


def job_under(
    spec: RunSpec,
    datasets: Sequence[str],
    *,
    limit: int | None = None,
    plan: Path | None = None,
    trace: Path | None = None,
) -> Job:
    """Return the job of a configuration that was read already; parameters as those of `job_from`."""
    files = dataset_files(datasets)
    if trace is not None:
        require_folder(trace)
    output = spec.output.path or (spec.output.folder or Path()) / default_output(files, limit).name
    if spec.output.path and limit:
        output = output.with_name(f"{output.stem}.first-{limit}{output.suffix}")
    return Job(
        datasets=files,
        output=absolute(output),
        spec=spec,
        limit=limit,
        plan=plan and absolute(plan),
        trace=trace and absolute(trace),
    )


def absolute(path: Path) -> Path:
    """Return the path from the root on, links kept. Raises UsageError where it holds control characters."""
    text = os.path.abspath(path)
    if has_control_characters(text):
        raise UsageError(
            f"the path {text} holds line breaks or other control characters, which shells and Slurm obey", "rename it"
        )
    return Path(text)


def dataset_files(arguments: Sequence[str]) -> tuple[Path, ...]:
    """Return the files that the command line names, in its order; those of a pattern as people count them.

    So part-2 comes before part-10. A pattern leaves out *.predictions.h5, so that the second run of a command does not
    find the result of the first. Raises DataError where a pattern matches nothing, UsageError where a file is named
    twice.
    """
    files: list[Path] = []
    for argument in arguments:
        if Path(argument).exists() or not has_magic(argument):
            files.append(absolute(Path(argument)))
            continue
        matches = sorted((path for path in glob(argument) if not path.endswith(RESULT_SUFFIX)), key=_counted)
        if not matches:
            raise DataError(
                f"no file matches {argument}", "check the pattern; relative ones start at the current folder"
            )
        files += [absolute(Path(match)) for match in matches]
    twice = [str(path) for path, times in Counter(files).items() if times > 1]
    if twice:
        raise UsageError(f"named more than once: {listed(twice, 3)}", "name every file of the dataset once")
    return tuple(files)


def _counted(name: str) -> list[tuple[int, int, str]]:
    """Return a key that sorts text as text and the numbers within it as numbers."""
    parts = re.split(r"([0-9]+)", name)
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts if part]
