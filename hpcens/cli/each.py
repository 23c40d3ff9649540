"""Verbs that score many files, each into its own result: submit --each, run --each."""

from __future__ import annotations

from argparse import Namespace

from hpcens.cli.runs import wait
from hpcens.cli.terminal import say, short, show
from hpcens.config import asked_of_slurm, find, load, slurm_settings
from hpcens.errors import COMPLETE, INCOMPLETE, UsageError, next_steps
from hpcens.launch import slurm
from hpcens.launch.as_rank import inside_world
from hpcens.launch.start import trials_of
from hpcens.reports.units import units_lines
from hpcens.runs.cancellation import withdraw_nameless
from hpcens.shell import counted, quoted
from hpcens.units import Round, UnitsDirectory
from hpcens.units.status import status_of_units
from hpcens.worlds import elements
from hpcens.worlds.files import job_of_unit, list_files
from hpcens.worlds.world import UnitsWorld

_ALONE = {
    "plan": "--plan is for one dataset",
    "trace": "--trace is for one dataset",
    "output": "-o names one result, and --each makes one of every file: write output: {folder: …} in the YAML",
    "code": "--code is for one dataset",
    "deadline": "--deadline is for one dataset",
    "join": "--join is for one dataset: worlds of --each need no other word to share the files",
    "resubmit": "--resubmit is for one dataset: worlds of --each take each other's place",
}


def refuse_for_each(options: Namespace) -> None:
    """Raise UsageError where an option makes no sense for many files."""
    chosen = vars(options)
    for name, why in _ALONE.items():
        if chosen.get(name):
            raise UsageError(f"{why}", "leave it out, or score the files one by one without --each")
    if inside_world():
        raise UsageError("--each starts ranks of its own", "run it without mpiexec or srun")


def run_each(options: Namespace) -> int:
    """Score every file on this host, and wait for the end."""
    refuse_for_each(options)
    directory, units = list_files(load(find(options.config)), options.dataset, limit=options.limit)
    own = Round.new()
    directory.keep_round(own)
    withdraw_nameless(directory.cancel)
    tally = UnitsWorld(directory, units, own.id, tell=say).live()
    status = status_of_units(directory)
    show(units_lines(status))
    if tally.verdict is not None:
        next_step = next_steps(tally.verdict.remedy)
        say(f"not complete ({tally.verdict.code}): {tally.verdict.reason}{next_step}", to_stderr=True)
        return tally.verdict.code
    return INCOMPLETE if status.code is None else status.code  # None: other worlds are at the rest


def submit_each(options: Namespace) -> int:
    """Score every file as elements of a job array, where Slurm answers; else on this host, here and now."""
    refuse_for_each(options)
    if options.local or not slurm.answers():
        if options.array or options.slurm or options.dry_run:
            raise UsageError("--array, --slurm and --dry-run are for Slurm, and none answers here", "leave them out")
        if options.wait is False or options.parsable:
            raise UsageError("without Slurm the files are scored here and now", "leave out --no-wait and --parsable")
        return run_each(options)
    spec = load(find(options.config))
    settings = asked_of_slurm(spec, options.slurm)
    elements.refuse_of_srun(slurm_settings(spec.slurm, options.slurm or ()))
    own = Round.new()
    directory, units = list_files(spec, options.dataset, limit=options.limit, trials=trials_of(settings))
    job = job_of_unit(units, units.units[0])
    if options.dry_run:
        say(elements.script(directory, job, own, settings))
        return COMPLETE
    left = sum(standing.state != "done" for standing in directory.standings(units).values())
    if not left:
        show(units_lines(status_of_units(directory)))
        return COMPLETE
    wanted, at_once = options.array or (1, None)
    withdraw_nameless(directory.cancel)
    own = elements.submit_worlds(directory, job, own, settings, min(wanted, left), at_once)
    return worlds_submitted(own, directory, counted(left, "file"), options)


def worlds_submitted(own: Round, directory: UnitsDirectory, what: str, options: Namespace) -> int:
    """Say which worlds were submitted for what, and wait for them where that is asked for."""
    if options.parsable:
        say(",".join(own.jobs))
    else:
        worlds = f"{own.worlds} worlds" if own.worlds > 1 else "one world"
        next_step = f"next: hpcens status {quoted(short(directory.path))}"
        say(f"job {', '.join(own.jobs)} is submitted: {worlds} for {what}; {next_step}")
    return wait(Namespace(run=[directory.path])) if options.wait else COMPLETE
