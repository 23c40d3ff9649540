"""Verbs by which several worlds share one dataset: submit --array, run --join."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from hpcens.cli.each import worlds_submitted
from hpcens.cli.job import job_of
from hpcens.cli.terminal import say, short, show
from hpcens.config import asked_of_slurm, slurm_settings
from hpcens.errors import COMPLETE, INCOMPLETE, UsageError
from hpcens.launch import slurm
from hpcens.launch.as_rank import inside_world
from hpcens.launch.start import trials_of
from hpcens.reports.units import units_lines
from hpcens.runs import RunDirectory
from hpcens.runs.cancellation import withdraw_nameless
from hpcens.shell import quoted
from hpcens.units import Round, UnitList, UnitsDirectory, units_at
from hpcens.units.status import status_of_units
from hpcens.worlds import elements
from hpcens.worlds.dataset import check_dataset, list_dataset, world_of

# Options that one world alone obeys.
_ALONE = {
    "plan": "--plan",
    "trace": "--trace",
    "output": "-o",
    "code": "--code",
    "deadline": "--deadline",
    "resubmit": "--resubmit",
    "each": "--each",
}
_WORLDS = 4  # by which a dataset is cut where nobody says how many there will be


def _refuse(options: Namespace, asked: str) -> None:
    """Raise UsageError where an option makes no sense for a dataset that worlds share. asked: what asks for that."""
    for name, option in _ALONE.items():
        if vars(options).get(name):
            raise UsageError(f"{asked} does not go with {option}", f"leave out {option}, or {asked}")
    if inside_world():
        raise UsageError(f"{asked} starts ranks of its own", "run it without mpiexec or srun")


def submit_blocks(options: Namespace) -> int:
    """Score one dataset as elements of a job array, which share it block by block."""
    _refuse(options, "--array")
    if options.local or not slurm.answers():
        raise UsageError(
            "--array is for Slurm, and none answers here",
            "leave it out; or score it by several hosts: hpcens run --join DATASET.h5 on each",
        )
    job = job_of(options)
    settings = asked_of_slurm(job.spec, options.slurm)
    elements.refuse_of_srun(slurm_settings(job.spec.slurm, options.slurm or ()))
    checked = check_dataset(job, trials_of(settings))
    if checked is None:
        return _complete(job.output)
    wanted, at_once = options.array
    own, run = Round.new(), RunDirectory.of(job.output)
    if options.dry_run:
        say(elements.script(UnitsDirectory(run.path), job, own, settings))
        return COMPLETE
    slurm.refuse_if_queued(run)
    directory, _ = list_dataset(checked, min(wanted, at_once or wanted))
    withdraw_nameless(directory.cancel)
    own = elements.submit_worlds(directory, job, own, settings, wanted, at_once)
    return worlds_submitted(own, directory, short(job.output), options)


def join(options: Namespace) -> int:
    """Score one dataset on this host together with other worlds, until nothing is left for this one."""
    _refuse(options, "--join")
    listed = _listed(options)
    if isinstance(listed, Path):
        return _complete(listed)
    directory, units = listed
    own = Round.new()
    directory.keep_round(own)
    withdraw_nameless(directory.cancel)
    tally = world_of(directory, units, own.id, tell=say).live()
    result = Path(units.whole)
    if not RunDirectory.of(result).blocks.is_dir():
        say(f"complete → {short(result)}; next: hpcens verify {quoted(short(result))}")
        return COMPLETE
    status = status_of_units(directory)
    show(units_lines(status))
    if tally.verdict is not None:
        next_step = f"; next: {tally.verdict.remedy}" if tally.verdict.remedy else ""
        say(f"not complete ({tally.verdict.code}): {tally.verdict.reason}{next_step}", to_stderr=True)
        return tally.verdict.code
    return INCOMPLETE if status.code is None else status.code  # None: other worlds are at the rest


def _listed(options: Namespace) -> tuple[UnitsDirectory, UnitList] | Path:
    """Return what is to be joined: what is listed at a run directory, else a dataset; or the result that is complete.

    Raises UsageError where a run directory is not shared.
    """
    path = Path(options.dataset[0])
    directory = units_at(path) if len(options.dataset) == 1 else None
    units = directory.newest_list if directory is not None else None
    if directory is not None and units is not None and units.whole:
        if options.config or options.limit:
            raise UsageError(
                f"what is scored, and how, is kept in {short(directory.path)}", "leave out -c and --limit to join it"
            )
        return directory, units
    if path.suffix == ".run" or path.is_dir():
        raise UsageError(f"{path} is not shared by several worlds", "hpcens status says how it stands")
    job = job_of(options)
    checked = check_dataset(job)
    return job.output if checked is None else list_dataset(checked, _WORLDS)


def _complete(output: Path) -> int:
    say(f"{short(output)} is complete already; next: hpcens verify {quoted(short(output))}")
    return COMPLETE
