"""Slurm checks: what srun and sbatch are asked for beyond our own keys, before a script is made of it."""

from __future__ import annotations

import re
from typing import Any

from hpcens.config.document import Page, shown

# srun's own that would undo what a start asks for, or would not do what they say here → what does
_RESERVED = {
    "cpus-per-task": "slurm.cpus_per_task",
    "error": "hpcens logs RUN shows what the ranks write",
    "exact": "a step has all that its job has",
    "exclusive": "a step has all that its job has",
    "het-group": "a job has nodes of one kind",
    "input": "ranks read nothing",
    "jobid": "the step is one of its own job",
    "kill-on-bad-exit": "a world that lost a rank ends at once, always",
    "label": "hpcens logs RUN shows what the ranks write",
    "mpi": "slurm.mpi",
    "multi-prog": "all ranks are of one program",
    "nodes": "slurm.nodes",
    "no-kill": "a world that lost a node ends at once, always",
    "ntasks": "ranks are counted by node: slurm.tasks_per_node",
    "ntasks-per-node": "slurm.tasks_per_node",
    "open-mode": "hpcens logs RUN shows what the ranks write",
    "output": "hpcens logs RUN shows what the ranks write",
    "overcommit": "reader and reducer share the cores of CPU devices by themselves",
    "pty": "ranks have no terminal",
    "signal": "the warning before the limit is slurm.drain_seconds",
    "test-only": "hpcens submit --dry-run",
    "time": "slurm.time, before which the job drains",
    "unbuffered": "hpcens logs RUN shows what the ranks write",
    "wait": "a world that lost a rank ends at once, always",
    "whole": "a step has all that its job has",
}
_NAME = re.compile("[A-Za-z][A-Za-z0-9-]+")
# what a shell would have put something else in the place of
_EXPANDED = re.compile(r"\$[\w{(]|(?:^|[:,=])~")


def expanded_by_shells(text: str) -> bool:
    """Return whether a shell would expand part of a text, which here stays as it is: $HOME, ~/images."""
    return _EXPANDED.search(text) is not None


def reserved(name: str) -> str:
    """Say what to write in place of an option of srun's that is not the user's to set; empty where it is.

    name  in full, or as far as srun takes it for the whole
    """
    return next((remedy for full, remedy in _RESERVED.items() if full.startswith(name)), "")


def check_slurm(page: Page, section: Any) -> None:
    """Check the options that a `slurm:` section hands on to srun and to sbatch, each by itself."""
    if not isinstance(section, dict):
        return
    noted = {place for place, _, _ in page.problems}
    for part in ("arguments", "srun"):
        options = section.get(part)
        for name, value in options.items() if isinstance(options, dict) else ():
            place = ("slurm", part, name)
            if place not in noted and (what := _unfit(part, name, value)):
                page.refuse(place, what)


def _unfit(part: str, name: str, value: Any) -> str:
    """Say what is wrong with one option; empty where nothing is."""
    program = "srun" if part == "srun" else "sbatch"
    if isinstance(value, dict | list):
        return f"expected one value, not {shown(value)}; write it as {program} takes it"
    if value is None:
        return f"has no value; write true where {program} takes none"
    if part != "srun":
        return ""
    if not _NAME.fullmatch(name):
        return "is no option of srun; write its long name without the dashes, for example container-image"
    if remedy := reserved(name):
        return f"is not an option of srun to be set here; {remedy}"
    if value == "":
        return "has no value; write true where srun takes none, false to leave out what a site profile says"
    if isinstance(value, str) and expanded_by_shells(value):
        return f"{shown(value)} holds $ or ~, of which nothing is expanded; write out what it stands for"
    return ""
