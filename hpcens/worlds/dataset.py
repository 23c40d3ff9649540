"""List a dataset that several worlds are to share: it is checked and tried once, by whoever asks first."""

from __future__ import annotations

from collections.abc import Callable

from hpcens.checks.testbed import Trials
from hpcens.config import job_to_json
from hpcens.errors import FingerprintMismatch, UsageError
from hpcens.launch.start import CheckedJob, check_once, start
from hpcens.ownership import READABLE, own_folder
from hpcens.result import standing
from hpcens.runs import RunDirectory, SlurmJob
from hpcens.shell import quoted
from hpcens.specs import Job
from hpcens.units import UnitList, UnitsDirectory
from hpcens.units.blocks import planning
from hpcens.worlds.blocks import BlocksWorld
from hpcens.worlds.files import changed, made_of
from hpcens.worlds.world import UnitsWorld


def check_dataset(job: Job, trials: Trials = "here") -> CheckedJob | None:
    """Check a dataset that worlds are to share; None where its result is complete.

    Raises UsageError where one world has begun it, members would be added to a result that is there, few rows kept, or
    rows left to later stages of a cascade.
    """
    run = RunDirectory.of(job.output)
    checked = check_once(job, trials)
    if checked.is_complete():
        return None
    if checked.preflight.stored:
        raise UsageError(
            f"members would be added to {job.output}, which one world does alone", "leave out --array, or --join"
        )
    if job.spec.cascade:
        raise UsageError(
            "cascade: which rows a stage leaves to the next is decided by one world, and those of --array share the"
            " dataset",
            "leave out --array, or --join; or split the dataset into files: --each",
        )
    if job.spec.output.keep is not None:
        raise UsageError(
            "output.keep: the rows to be kept are chosen by one world, and those of --array share the dataset",
            "leave out --array, or --join; or keep all rows, and choose from the result",
        )
    if not run.blocks.is_dir():
        run.refuse_if_alive()
        content = standing(run)
        if content is not None and content.written() and (run.path / content.header.working).exists():
            raise UsageError(
                f"one world has begun {job.output}: {len(content.written())} segments of it are durable",
                f"go on without --array, or --join; or begin anew: rm -r {quoted(run.path)}",
            )
    return checked


def list_dataset(checked: CheckedJob, worlds: int) -> tuple[UnitsDirectory, UnitList]:
    """List a dataset that was checked, unless it is listed already; return where, and the list.

    worlds  that are to share it, by which it is cut into blocks
    Raises what members' trials raise; FingerprintMismatch where what is listed is of another ensemble.
    """
    job, run = checked.job, RunDirectory.of(checked.job.output)
    directory = UnitsDirectory(run.path)
    account = made_of(checked)
    if (before := directory.newest_list) is not None:
        if edited := changed(before.made_of, account):
            raise FingerprintMismatch(
                f"{job.output} is being scored from something else: {', '.join(edited)}",
                "choose another output.path; or put back what was there",
            )
        return directory, before
    start(checked, lambda job, preflight: None)
    run.own()
    directory.make()
    own_folder(run.blocks, READABLE, "choose another output")
    row, whole = checked.preflight.facts.row, str(job.output)
    first = UnitList(0, job_to_json(job), account, (), row, whole, worlds=worlds)
    return directory, directory.keep(planning(first), after=0)


def world_of(
    directory: UnitsDirectory,
    units: UnitList,
    round_id: str,
    *,
    slurm: SlurmJob | None = None,
    ends: float | None = None,
    tell: Callable[[str], None] = lambda line: None,
) -> UnitsWorld:
    """Return a world for what is listed: many files, or one dataset. Parameters as those of `UnitsWorld`."""
    kind = BlocksWorld if units.whole else UnitsWorld
    return kind(directory, units, round_id, slurm=slurm, ends=ends, tell=tell)
