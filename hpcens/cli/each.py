"""Verbs that score many files, each into its own result: submit --each, run --each."""

from __future__ import annotations

from argparse import Namespace

from hpcens.cli.terminal import say, show
from hpcens.config import find, load
from hpcens.errors import INCOMPLETE, UsageError
from hpcens.launch.as_rank import inside_world
from hpcens.launch.unit_list import list_files
from hpcens.launch.units import UnitsWorld
from hpcens.reports.units import units_lines
from hpcens.runs.cancellation import withdraw
from hpcens.units import Round
from hpcens.units.status import status_of_units

_ALONE = {
    "plan": "--plan is for one dataset",
    "trace": "--trace is for one dataset",
    "output": "-o names one result, and --each makes one of every file: write output: {folder: …} in the YAML",
    "code": "--code is for one dataset",
    "deadline": "--deadline is for one dataset",
    "resubmit": "--resubmit is for one dataset: worlds of --each take each other's place",
}


def refuse_for_each(options: Namespace) -> None:
    """Raise UsageError where an option makes no sense for many files."""
    given = vars(options)
    for name, why in _ALONE.items():
        if given.get(name):
            raise UsageError(f"{why}", "leave it out, or score the files one by one without --each")
    if inside_world():
        raise UsageError("--each starts ranks of its own", "run it without mpiexec or srun")


def run_each(options: Namespace) -> int:
    """Score every file on this host, and wait for the end."""
    refuse_for_each(options)
    directory, units = list_files(load(find(options.config)), options.dataset, limit=options.limit)
    own = Round.new()
    directory.keep_round(own)
    withdraw(directory.cancel, {own.id})
    tally = UnitsWorld(directory, units, own.id, tell=say).live()
    status = status_of_units(directory)
    show(units_lines(status))
    if tally.verdict is not None:
        next_step = f"; next: {tally.verdict.remedy}" if tally.verdict.remedy else ""
        say(f"not complete ({tally.verdict.code}): {tally.verdict.reason}{next_step}", to_stderr=True)
        return tally.verdict.code
    return INCOMPLETE if status.code is None else status.code  # None: other worlds are at the rest
