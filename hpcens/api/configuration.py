"""Read configurations, from a file or from Python's own data, and make jobs of them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from hpcens.config import find, load, load_mapping
from hpcens.config.job import absolute, job_under
from hpcens.specs import Job, RunSpec

PathLike = str | os.PathLike[str]
Config = RunSpec | Mapping[str, Any] | PathLike | None
"""A configuration that was read, a mapping like that of a YAML file, the path of one; None: the one that the command
line would find, ./hpcens.yaml or $HPCENS_CONFIG."""


def load_config(config: Config = None) -> RunSpec:
    """Read a configuration and check it whole.

    config  path of a YAML file, whose relative paths start at its folder; or a mapping with the same keys, whose
            relative paths start at the working folder. None: ./hpcens.yaml, else the file that $HPCENS_CONFIG names
    Raises UsageError naming all that is wrong at once.
    """
    if isinstance(config, RunSpec):
        return config
    if isinstance(config, Mapping):
        return load_mapping(config, Path.cwd())
    return load(find(None if config is None else Path(config)))


def job_of(
    datasets: PathLike | Sequence[PathLike],
    config: Config,
    *,
    output: PathLike | None = None,
    limit: int | None = None,
    plan: PathLike | None = None,
    trace: PathLike | None = None,
) -> Job:
    """Return the job of a function's arguments; see `hpcens.config.job.job_under`.

    datasets  one HDF5 file or several, in the order of their rows; patterns as 'part-*.h5'
    output    the result; None: as the configuration says
    """
    spec = load_config(config)
    if output is not None:
        spec = replace(spec, output=replace(spec.output, path=absolute(Path(output))))
    names = [datasets] if isinstance(datasets, str | os.PathLike) else datasets
    return job_under(
        spec,
        [os.fspath(name) for name in names],
        limit=limit,
        plan=None if plan is None else Path(plan),
        trace=None if trace is None else Path(trace),
    )
