"""List many files for worlds to score: the ensemble is checked and tried once, on the first file that can be read."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import count
from pathlib import Path

from hpcens.checks.preflight import Preflight, check
from hpcens.checks.testbed import Trials
from hpcens.config import job_from_json, job_to_json
from hpcens.errors import BAD_DATA, FAILURE, DataError, FingerprintMismatch, MemberError, UsageError
from hpcens.launch.start import CheckedJob, check_once, start
from hpcens.result import in_format, made_of_but_data
from hpcens.runs import RunDirectory, Verdict
from hpcens.shell import printable
from hpcens.specs import Job, RunSpec
from hpcens.units import Unit, UnitList, UnitsDirectory, list_units

DEFAULT_FOLDER = "predictions"
_MOST_FAULTY = 3
_IMPORTED = ("imports ", "library ")


def list_files(
    spec: RunSpec, arguments: Sequence[str], *, limit: int | None = None, trials: Trials = "here"
) -> tuple[UnitsDirectory, UnitList]:
    """List the files that a command names, once the ensemble was checked and tried; return where, and the list.

    arguments  files and patterns
    limit      rows to score of each; None: all
    trials     where members are tried
    Raises what the first files would end with where not even one of some can be scored, UsageError where names would
    collide, FingerprintMismatch where what was scored before is of another ensemble.
    """
    if spec.output.path is not None and spec.output.folder is None:
        raise UsageError(
            "output.path names one result, and --each makes one of every file", "write output: {folder: predictions}"
        )
    folder = (spec.output.folder or Path.cwd() / DEFAULT_FOLDER).absolute()
    units = list_units(arguments, folder, limit)
    jobs = [Job(datasets=(Path(unit.dataset),), output=Path(unit.output), spec=spec, limit=limit) for unit in units]
    directory = UnitsDirectory.of(folder)
    folder.mkdir(parents=True, exist_ok=True)
    directory.make()
    checked = _first_checked(jobs, trials)
    start(checked, lambda job, preflight: None)
    return directory, _kept(directory, jobs[0], units, made_of(checked), checked.preflight.facts.row)


def _first_checked(jobs: Sequence[Job], trials: Trials) -> CheckedJob:
    """Check the first of some jobs whose file can be read: one that is faulty is to fail by itself, later."""
    for number, job in enumerate(jobs):
        job.output.parent.mkdir(parents=True, exist_ok=True)
        try:
            return check_once(job, trials)
        except DataError as error:
            if number + 1 == min(_MOST_FAULTY, len(jobs)):
                raise
            print(printable(f"hpcens: note: {error.what}; the others go on"), file=sys.stderr)
    raise AssertionError("there is at least one file")


def _kept(
    directory: UnitsDirectory, job: Job, units: tuple[Unit, ...], account: Mapping[str, str], row: str
) -> UnitList:
    """Keep the list, unless what was scored before is of another ensemble."""
    if (before := directory.newest_list) is not None:
        scored = any(standing.state == "done" for standing in directory.standings(before).values())
        if scored and (edited := changed(before.made_of, account)):
            raise FingerprintMismatch(
                f"what was scored into {directory.path.with_suffix('')} is made of something else: {', '.join(edited)}",
                "choose another output.folder; or put back what was there",
            )
    return directory.keep(UnitList(0, job_to_json(job), account, units, row))


def made_of(checked: CheckedJob) -> dict[str, str]:
    """Return what a job's result is made of, but its rows and numerics: name → digest."""
    job, found = checked.job, checked.preflight
    return made_of_but_data(job.spec, found.digests, found.rule, found.space, job.limit)


def changed(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Return what differs between two accounts of what results are made of.

    What code imports is known once it was tried: where one of the two does not know, that does not count.
    """
    differ = (name for name in before.keys() | now.keys() if before.get(name) != now.get(name))
    return sorted(n for n in differ if (n in before and n in now) or not n.partition(": ")[2].startswith(_IMPORTED))


@contextmanager
def blaming_other_rows(units: UnitList, unit: Unit) -> Iterator[None]:
    """Raise DataError where a member fails on a file whose rows are others than those on which it was tried."""
    try:
        yield
    except MemberError as error:
        row = check(job_of_unit(units, unit)).facts.row
        if units.row in ("", row):
            raise
        raise DataError(_of_other_rows(units, row, error.what), _WITH_OTHER_MEMBERS) from error


def blame_other_rows(units: UnitList, row: str, verdict: Verdict) -> Verdict:
    """Return how ranks ended, as the fault of a file whose rows are others where nothing else is known to be at fault.

    row  shapes and dtypes of one of its rows, as text
    """
    if verdict.code != FAILURE or verdict.node or units.row in ("", row):
        return verdict
    reason = _of_other_rows(units, row, verdict.reason)
    return replace(verdict, code=BAD_DATA, reason=reason, remedy=_WITH_OTHER_MEMBERS)


_WITH_OTHER_MEMBERS = "score it by itself, with members for such rows; or leave it out"


def _of_other_rows(units: UnitList, row: str, what: str) -> str:
    return f"its rows are {row}, and the members were tried on {units.row}: {what}"


def job_of_unit(units: UnitList, unit: Unit) -> Job:
    """Return the job of one of the files, or of one part of a dataset that worlds share."""
    job = job_from_json(units.job)
    if not units.whole:
        return replace(job, datasets=(Path(unit.dataset),), output=Path(unit.output))
    whole = Path(units.whole) if unit.rows else None  # of plan and assembly the output is the whole
    return replace(job, output=Path(unit.output), whole=whole, segments=unit.segments)


def begin_anew_where_mended(run: RunDirectory, preflight: Preflight) -> None:
    """Put the run of a file that has changed since it failed out of the way: none of its rows is of use."""
    fixed = run.fixed_fingerprint
    if not isinstance(fixed, dict) or fixed.get("data") == in_format({"data": preflight.facts.identity})["data"]:
        return
    number = next(n for n in count(1) if not run.path.with_suffix(f".before-{n}").exists())
    run.path.rename(run.path.with_suffix(f".before-{number}"))
