"""Show how many files stand together: done, running, queued, failed and why; rows/s in all; time left."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from hpcens.errors import BAD_DATA, COMPLETE, FAILURE, INCOMPLETE, MISMATCH, USAGE
from hpcens.runs.cost import cost_of_worlds
from hpcens.scheduler.jobs import elements
from hpcens.units.at_work import WorldStatus, at_work, progress_of, world_statuses
from hpcens.units.blocks import assembly_of, blocks_of
from hpcens.units.claims import Attempt, Standing
from hpcens.units.directory import UnitsDirectory
from hpcens.units.listing import Unit, UnitList
from hpcens.units.queue import AskElements, living_in

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
    at_work       the worlds that live
    node_hours    that all worlds took; gpu_hours: of GPUs
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
    at_work: tuple[WorldStatus, ...] = ()
    node_hours: float = 0.0
    gpu_hours: float = 0.0


def worst(codes: Collection[int]) -> int:
    """Return the code that counts of several."""
    return next((code for code in WORST_FIRST if code in codes), max(codes, default=COMPLETE))


def status_of_units(directory: UnitsDirectory, ask: AskElements = elements) -> UnitsStatus:
    """Return how the files of the newest list stand.

    ask  asks Slurm for the elements of job arrays
    """
    listed = directory.newest_list or UnitList(0, "", {}, ())
    blocks = blocks_of(listed)
    counted = {unit.key for unit in blocks or listed.units}
    by_key = {unit.key: unit for unit in listed.units}
    every = directory.standings(listed)
    standings = {key: standing for key, standing in every.items() if key in counted}
    queue, living = living_in(directory, ask)
    work = at_work(directory, by_key, every, living)
    done = [key for key, standing in standings.items() if standing.state == "done"]
    running = {unit.key for unit, _ in work.current.values()} & counted
    failed = tuple(
        _failure(directory, by_key[key], standing.last)
        for key, standing in standings.items()
        if standing.state == "failed" and standing.last is not None
    )
    left = len(standings) - len(done) - len(failed)
    whole, last_failed = _whole(directory, listed, every)
    failed += last_failed
    unfinished = left + (not whole and not failed)
    going = bool(unfinished or failed) and bool(living or queue.waiting or queue.running)
    code = None if going else _code(unfinished, failed)
    refused = directory.refusal() if code == INCOMPLETE else ""
    code = MISMATCH if refused else code
    durable = {key: _durable(by_key[key]) for key in _progressing(standings, running, blocks)}
    speeds = [pace.speeds for pace in work.paces.values()]
    left_bytes = float(sum(unit.bytes for key, unit in by_key.items() if key not in done))
    left_bytes -= sum(by_key[key].bytes * rows / max(1, of) for key, (rows, of) in durable.items())
    bytes_per_second = sum((speed for _, speed in speeds), 0.0)
    cost = cost_of_worlds(directory.worlds)
    return UnitsStatus(
        run=str(directory.path),
        state=_state(code, bool(living) or queue.running > 0),
        code=code,
        of=len(standings),
        done=len(done),
        running=len(running),
        queued=len(standings) - len(done) - len(failed) - len(running) + len(last_failed),
        failed=failed,
        rows=_rows(directory, standings, by_key) + sum(rows for rows, _ in durable.values()),
        rows_per_second=sum((speed for speed, _ in speeds), 0.0),
        seconds_left=max(0.0, left_bytes) / bytes_per_second if living and bytes_per_second else None,
        worlds=len(living),
        waiting=queue.waiting,
        job=", ".join(queue.arrays) if going else "",
        noun="blocks" if listed.whole else "files",
        of_rows=sum(unit.rows for unit in blocks),
        stage=_stage(listed, len(done)),
        refused=refused,
        at_work=world_statuses(directory, work),
        node_hours=cost.node_seconds / 3600,
        gpu_hours=cost.gpu_seconds / 3600,
    )


def _progressing(standings: Mapping[str, Standing], running: Collection[str], blocks: Sequence[Unit]) -> Iterable[str]:
    """Return the units of which rows are durable that are not done: of files those that run, of blocks all begun."""
    begun = (key for key, standing in standings.items() if standing.state != "done" and standing.attempts)
    return begun if blocks else running


def _rows(directory: UnitsDirectory, standings: Mapping[str, Standing], units: Mapping[str, Unit]) -> int:
    """Return the rows of what is done: of a block all, of a file what its attempts have scored."""
    rows = 0
    for key, standing in standings.items():
        if standing.state != "done":
            continue
        ended = [directory.outcome(attempt) for attempt in standing.attempts if attempt.kind == "done"]
        rows += units[key].rows or sum(outcome.rows for outcome in ended if outcome is not None)
    return rows


def _stage(units: UnitList, done: int) -> str:
    if not units.whole:
        return ""
    if not units.fingerprint:
        return "its blocks are yet to be cut: the first world plans"
    return "all blocks are there, and are put together" if done == len(blocks_of(units)) else ""


def _whole(
    directory: UnitsDirectory, units: UnitList, standings: Mapping[str, Standing]
) -> tuple[bool, tuple[UnitFailure, ...]]:
    """Return whether nothing is left once all blocks, or files, are done; and how what is left failed, if it did."""
    assembly = assembly_of(units) if units.whole else None
    if assembly is None:
        return True, ()
    standing = standings[assembly.key]
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


def _durable(unit: Unit) -> tuple[int, int]:
    """Return how many rows of a unit that is worked on are durable, and of how many; 0 before its last phase."""
    progress = progress_of(unit)
    last = progress[-1] if progress else None
    return (last.rows, last.of) if last is not None and last.phase == last.phases else (0, 0)
