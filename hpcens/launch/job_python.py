"""The Python of a job: the one that submits, or another that the site names, a container's for one."""

from __future__ import annotations

import shlex

from hpcens.entry import command, command_of
from hpcens.specs import SlurmSpec


def job_command(settings: SlurmSpec, module: str, *arguments: str) -> str:
    """Return the line of a script that runs a module of hpcens in the Python of jobs and ranks, quoted."""
    if settings.python is None:
        return shlex.join(command(module, *arguments))
    return shlex.join(command_of(shlex.split(settings.python), module, *arguments))


def srun_options(settings: SlurmSpec) -> list[str]:
    """Return the further options of srun that are asked for, a word each."""
    meant = {name.replace("_", "-"): value for name, value in settings.srun.items() if value is not False}
    return [f"--{name}" if value is True else f"--{name}={value}" for name, value in meant.items()]
