"""Show how many files stand together: done, running, queued, failed and why; rows/s in all; time left."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from hpcens.errors import BAD_DATA, COMPLETE, FAILURE, INCOMPLETE, MISMATCH, USAGE
from hpcens.runs import ProgressMade, RunDirectory, recent
from hpcens.scheduler.jobs import elements
from hpcens.units.blocks import assembly_of, blocks_of
from hpcens.units.claims import Attempt
from hpcens.units.directory import UnitsDirectory
from hpcens.units.listing import Unit, UnitList
from hpcens.units.worlds import living_worlds

WORST_FIRST = (FAILURE, MISMATCH, BAD_DATA, USAGE, INCOMPLETE, COMPLETE)
"""Of several codes the first of these counts: what needs a person before what needs a repetition."""


@dataclass(frozen=True, slots=True)
class UnitFailure:
    """A file that failed: why, with which code, and where its result would be."""

    dataset: str
    output: str
    code: int
    reason: str


@dataclass(frozen=True, slots=True)
class UnitsStatus:
    """How the files of a directory stand, or the blocks of a dataset.

    state         running, queued, complete, failed, or resumable: some are left, and nothing works on them
    code          exit code of how it ended; None while a world of it lives or waits
    done, running, queued  numbers of files, or blocks
    rows          scored in all: of files that are done, and durable ones of those that run; of blocks all durable ones
    rows_per_second  in all, of the worlds that live
    seconds_left  None where nothing is known
    worlds, waiting  worlds that live, and that wait in Slurm's queue
    noun          files or blocks
    of_rows       rows of the dataset that is scored in blocks; of files 0: they are not known
    stage         of what all blocks wait for: planning, or being put together; else empty
    refused       why hosts of the last command were refused, and what to do; empty where none was, or others go on
    """

    run: str
    state: str
    code: int | None
    of: int
    done: int
    running: int
    queued: int
    failed: tuple[UnitFailure, ...]
    rows: int
    rows_per_second: float
    seconds_left: float | None
    worlds: int
    waiting: int
    job: str = ""
    noun: str = "files"
    of_rows: int = 0
    stage: str = ""
    refused: str = ""


def worst(codes: Collection[int]) -> int:
    """Return the code that counts of several."""
    return next((code for code in WORST_FIRST if code in codes), max(codes, default=COMPLETE))


def status_of_units(
    directory: UnitsDirectory, queue: Callable[[Sequence[str]], Counter[str] | None] = elements
) -> UnitsStatus:
    """Return how the files of the newest list stand.

    queue  returns how many elements of Slurm's jobs are in which state; None where it does not answer
    """
    listed = directory.newest_list or UnitList(0, "", {}, ())
    blocks = blocks_of(listed)
    units = replace(listed, units=blocks) if blocks else listed
    by_key = {unit.key: unit for unit in units.units}
    standings = directory.standings(units)
    living = living_worlds(directory.worlds)
    last = {key: standing.last for key, standing in standings.items() if standing.last is not None}
    done = [key for key, standing in standings.items() if standing.state == "done"]
    held = [key for key, standing in standings.items() if standing.state == "held"]
    running = [key for key in held if directory.claimant(last[key])[0] in living]
    failed = tuple(
        _failure(directory, by_key[key], last[key]) for key, standing in standings.items() if standing.state == "failed"
    )
    jobs = [job for own in directory.rounds()[-_ROUNDS:] for job in own.jobs]
    states = (queue(jobs) if jobs else Counter()) or Counter()
    waiting = states["PENDING"] + states["CONFIGURING"] + states["REQUEUED"]
    going = bool(living) or waiting > 0 or states["RUNNING"] > 0
    left = len(units.units) - len(done) - len(failed)
    whole, last_failed = _whole(directory, listed)
    failed += last_failed
    code = None if going else _code(left + (not whole and not failed), failed)
    refused = directory.refusal() if code == INCOMPLETE else ""
    code = MISMATCH if refused else code
    finished = {key: [each for each in standings[key].attempts if each.kind == "done"] for key in done}
    rows, speed, bytes_per_second = _figures(directory, by_key, finished, living)
    left_bytes = sum(unit.bytes for key, unit in by_key.items() if key not in done)
    if blocks:
        rows = sum(by_key[key].rows for key in done)
    progressing = [key for key, standing in standings.items() if key not in done and standing.attempts]
    return UnitsStatus(
        run=str(directory.path),
        state=_state(code, bool(living) or states["RUNNING"] > 0),
        code=code,
        of=len(units.units),
        done=len(done),
        running=len(running),
        queued=len(units.units) - len(done) - len(failed) - len(running),
        failed=failed,
        rows=rows + sum(_durable(by_key[key]) for key in (progressing if blocks else running)),
        rows_per_second=speed,
        seconds_left=left_bytes / bytes_per_second if living and bytes_per_second else None,
        worlds=len(living),
        waiting=waiting,
        job=", ".join(jobs) if going else "",
        noun="blocks" if listed.whole else "files",
        of_rows=sum(unit.rows for unit in blocks),
        stage=_stage(listed, len(done)),
        refused=refused,
    )


_ROUNDS = 5  # newest commands of which jobs may still live


def _stage(units: UnitList, done: int) -> str:
    if not units.whole:
        return ""
    if not units.fingerprint:
        return "its blocks are yet to be cut: the first world plans"
    return "all blocks are there, and are put together" if done == len(blocks_of(units)) else ""


def _whole(directory: UnitsDirectory, units: UnitList) -> tuple[bool, tuple[UnitFailure, ...]]:
    """Return whether nothing is left once all blocks, or files, are done; and how what is left failed, if it did."""
    assembly = assembly_of(units) if units.whole else None
    if assembly is None:
        return True, ()
    standing = directory.standings(replace(units, units=(assembly,)))[assembly.key]
    if standing.state == "failed" and standing.last is not None:
        return False, (_failure(directory, assembly, standing.last),)
    return standing.state == "done", ()


def _state(code: int | None, works: bool) -> str:
    if code is None:
        return "running" if works else "queued"
    return {COMPLETE: "complete", INCOMPLETE: "resumable"}.get(code, "failed")


def _code(left: int, failed: Sequence[UnitFailure]) -> int:
    """Return the code with which it ended: what is left over is to be gone on with, before what failed is looked at."""
    if left:
        return INCOMPLETE
    return worst({failure.code for failure in failed})


def _failure(directory: UnitsDirectory, unit: Unit, attempt: Attempt) -> UnitFailure:
    outcome = directory.outcome(attempt)
    code, reason = (outcome.code, outcome.reason) if outcome is not None else (FAILURE, "its record cannot be read")
    return UnitFailure(unit.name if unit.rows else unit.dataset, unit.output, code, reason)


def _figures(
    directory: UnitsDirectory, units: dict[str, Unit], done: dict[str, list[Attempt]], living: Collection[str]
) -> tuple[int, float, float]:
    """Return rows scored in all; and rows/s and bytes/s of the worlds that live, each by its own clock."""
    rows = 0
    sums: dict[str, list[float]] = {}
    for key, attempts in done.items():
        for attempt in attempts:
            outcome = directory.outcome(attempt)
            if outcome is None:
                continue
            rows += outcome.rows
            world, _ = directory.claimant(attempt)
            if world in living and outcome.seconds:
                own = sums.setdefault(world, [0.0, 0.0, 0.0])
                own[0] += outcome.rows
                own[1] += units[key].bytes
                own[2] += outcome.seconds
    speeds = [(scored / seconds, size / seconds) for scored, size, seconds in sums.values()]
    return rows, sum(speed for speed, _ in speeds), sum(speed for _, speed in speeds)


def _durable(unit: Unit) -> int:
    """Rows of a file that is worked on that are durable."""
    epoch = RunDirectory.of(Path(unit.output)).newest
    events = recent(epoch.events) if epoch is not None else []
    progress = [event for event in events if isinstance(event, ProgressMade)]
    return progress[-1].rows if progress and progress[-1].phase == progress[-1].phases else 0
