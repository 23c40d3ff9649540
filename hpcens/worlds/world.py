"""Units: a world that claims file after file and has its ranks score each into its own result.

claim ─► check ─► its ranks score ─► settle

This process watches over a world: it claims and checks, without MPI; the ranks it starts live one start after another.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from hpcens.checks.preflight import Preflight
from hpcens.config import job_from_json
from hpcens.engine import discover
from hpcens.errors import (
    COMPLETE,
    FAILURE,
    INCOMPLETE,
    FingerprintMismatch,
    HpcensError,
    as_verdict,
)
from hpcens.launch import local
from hpcens.launch.follow import HeardSignals
from hpcens.launch.start import check_once, start
from hpcens.members.kept_digests import digests_kept
from hpcens.processes.leftovers import sweep
from hpcens.runs import AGAIN, Epoch, Report, RunDirectory, SlurmJob, Verdict
from hpcens.runs.cancellation import asked_to_end
from hpcens.runs.requeue import gained
from hpcens.shell import in_a_line
from hpcens.specs import Job
from hpcens.units import (
    Claimed,
    Kind,
    Outcome,
    Unit,
    UnitList,
    UnitsDirectory,
    World,
    claim_next,
    dead_worlds,
    kind_of,
)
from hpcens.units.claims import MOST_DEATHS
from hpcens.units.worlds import Counters, beating_world, predecessors
from hpcens.worlds.files import (
    begin_anew_where_mended,
    blame_other_rows,
    blaming_other_rows,
    changed,
    job_of_unit,
    made_of,
)
from hpcens.worlds.ranks import UnitRanks
from hpcens.worlds.supervision import see_through

# A world in which so many units in a row ended by no fault of their data ends itself: what ends them may be its node.
_MOST_IN_A_ROW = 3
EDITED = "changed since the files were listed"


@dataclass(slots=True)
class Tally:
    """What a world did.

    verdict  why it ended before nothing was left for it; None where nothing was
    short    whether its time ended, or was too short for what is left, with files left
    gained   whether it made rows durable
    """

    done: int = 0
    failed: int = 0
    left: int = 0
    verdict: Verdict | None = None
    short: bool = False
    gained: bool = False


class UnitsWorld:
    """One world: claim unit after unit and have ranks of this host score them.

    round_id  the command that started it
    slurm     Slurm's job around this process; ends: seconds since 1970 at which it is warned; None: it is not
    tell      shown what came of each unit, in a line
    """

    noun = "files"

    def __init__(
        self,
        directory: UnitsDirectory,
        units: UnitList,
        round_id: str,
        *,
        slurm: SlurmJob | None = None,
        ends: float | None = None,
        tell: Callable[[str], None] = lambda line: None,
    ) -> None:
        self._directory = directory
        self._units = units
        self._world = World.new(round_id, slurm)
        self._ends = ends
        self._tell = tell
        self._stop = HeardSignals()
        self._tally = Tally()
        self._bytes, self._seconds = 0, 0.0
        self._in_a_row = 0
        self._tried: set[str] = set()
        self._counters = Counters(directory.worlds, self._world)
        self._warm: list[tuple[int, float]] = []  # bytes and seconds of units for which nothing had to be started
        self._scored = False  # whether ranks were at the last unit
        self._ranks = UnitRanks(0, Path())
        self._before: set[str] = set()  # worlds in whose place Slurm has started it

    def live(self) -> Tally:
        """Score until nothing is left for this world, it is asked to end, or its node may be to blame."""
        if not self._claimable():
            return self._tally
        job = job_from_json(self._units.job)
        expected = local.ranks_of(job)
        gpus = sum(device.family == "cuda" for device in discover(job.spec.devices))
        self._world = replace(self._world, gpus=gpus)
        local.mpiexec()
        sweep()
        self._before = predecessors(self._directory.worlds, self._world)
        folder = self._world.enter(self._directory.worlds)
        self._ranks = UnitRanks(expected, folder / "output.log")
        with self._stop.listening(), beating_world(folder), digests_kept():
            try:
                while not self._ended() and (claimed := self._claim()) is not None:
                    self._score(claimed)
            finally:
                self._ranks.end()
        self._tally.short = self._is_short()
        return self._tally

    def _is_short(self) -> bool:
        """Whether files are left that this world had no time for."""
        if not (self._stop.warned or (self._ends is not None and self._tally.verdict is None)):
            return False
        standings = self._directory.standings(self._units, self._world.round)
        return any(standing.state == "free" for standing in standings.values())

    def _claimable(self) -> bool:
        """Whether there is anything that this world may come to claim: a look at one folder, and no more."""
        standings = self._directory.standings(self._units, self._world.round)
        return any(standing.state in ("free", "held") for standing in standings.values())

    def _ended(self) -> bool:
        """Whether this world is to claim no more."""
        if self._tally.verdict is None and (reason := self._asked()):
            self._tally.verdict = Verdict(INCOMPLETE, reason, AGAIN)
        return self._tally.verdict is not None

    def _asked(self) -> str:
        """Return why this world is asked to end; empty where it is not."""
        if self._stop.signals:
            return f"stopped by {self._stop.signals[0].name}"
        return asked_to_end(self._directory.cancel, {self._world.round, self._world.id})

    def _claim(self) -> Claimed | None:
        """Claim the next unit; None where there is none for this world."""
        return self._claim_of(self._units.units)

    def _claim_of(self, units: Iterable[Unit]) -> Claimed | None:
        left = tuple(unit for unit in units if unit.key not in self._tried)
        return claim_next(
            self._directory,
            replace(self._units, units=left),
            self._world.id,
            self._world.round,
            dead=lambda names: dead_worlds(self._directory.worlds, names, self._world),
            known_dead=lambda names: self._counters.known_dead(names),
            predecessors=self._before,
            seconds_left=None if self._ends is None else self._ends - time.time(),
            speed=self._bytes / self._seconds if self._seconds else None,
            pace=self._pace(),
        )

    def _pace(self) -> float:
        """Return the pace of this world, of that which is expected of one; of files none is."""
        return 1.0

    def _score(self, claimed: Claimed) -> None:
        """Score what was claimed, and state what came of it."""
        unit = next(unit for unit in self._units.units if unit.key == claimed.attempt.unit)
        began = time.monotonic()
        rows = 0
        if claimed.deaths >= MOST_DEATHS:
            reason = f"{claimed.deaths} worlds ended without a word while they worked on it"
            verdict = Verdict(FAILURE, reason, f"look into {self._directory.worlds}")
            kind: Kind = "failed"
        else:
            self._scored = False
            try:
                with blaming_other_rows(self._units, unit):
                    verdict, rows = self._verdict_of(unit, claimed)
            except FingerprintMismatch as error:
                if error.what.startswith(EDITED):
                    self._tally.verdict = Verdict(error.exit_code, error.what, error.remedy)
                    verdict = Verdict(INCOMPLETE, f"given back: {error.what}", error.remedy)
                else:
                    verdict = _of_error(error)
            except (HpcensError, OSError) as error:
                verdict = _of_error(error)
            except Exception as error:  # whatever it is, the other files are to be scored
                traceback.print_exc()
                verdict = _of_error(error)
            kind = self._kind(verdict, claimed)
        seconds = time.monotonic() - began
        self._settle(claimed, kind, Outcome(verdict.code, verdict.reason, rows, seconds))
        self._count(unit, kind, verdict, seconds)

    def _settle(self, claimed: Claimed, kind: Kind, outcome: Outcome) -> None:
        """State what came of an attempt."""
        self._directory.settle(claimed.attempt, kind, outcome)

    def _kind(self, verdict: Verdict, claimed: Claimed) -> Kind:
        """Return what came of an attempt: what a check refuses is refused again; what ended ranks may pass."""
        return kind_of(verdict.code, self._crashes(claimed) if self._scored else 1)

    def _count(self, unit: Unit, kind: str, verdict: Verdict, seconds: float) -> None:
        """Take in what came of a unit, and say it."""
        tally = self._tally
        if kind == "done":
            tally.done += 1
            tally.gained = True
            if self._seconds and unit.bytes:
                self._warm.append((unit.bytes, seconds))
            self._bytes += unit.bytes
            self._seconds += seconds if unit.bytes else 0.0
        elif kind == "failed":
            tally.failed += 1
        else:
            tally.left += 1
        if verdict.code == INCOMPLETE:
            self._tried.add(unit.key)
        if kind == "done" or self._scored:
            self._in_a_row = self._in_a_row + 1 if verdict.code in (FAILURE, INCOMPLETE) else 0
        elif verdict.code == INCOMPLETE:  # the disk is full
            self._in_a_row += 1
        if self._in_a_row == _MOST_IN_A_ROW and tally.verdict is None:
            reason = f"{self._in_a_row} {self.noun} in a row ended by no fault of their own, the last: {verdict.reason}"
            tally.verdict = Verdict(FAILURE, reason, verdict.remedy or AGAIN)
        self._tell(f"{kind}: {unit.name}: {in_a_line(verdict.reason)}")

    def _crashes(self, claimed: Claimed) -> int:
        """Count attempts of this round at the same unit before this one that ended with a failure of nobody's."""
        before = [attempt for attempt in claimed.before.attempts if attempt.kind == "left"]
        own = [attempt for attempt in before if self._directory.claimant(attempt)[1] == self._world.round]
        outcomes = (self._directory.outcome(attempt) for attempt in own)
        return sum(outcome is not None and outcome.code == FAILURE for outcome in outcomes)

    def _verdict_of(self, unit: Unit, claimed: Claimed) -> tuple[Verdict, int]:
        """Check a unit and have the ranks score it; return how that ended, and the rows that it scored.

        Raises what the unit would end with.
        """
        job = job_of_unit(self._units, unit)
        Path(unit.output).parent.mkdir(parents=True, exist_ok=True)
        checked = check_once(job)
        if edited := changed(self._units.made_of, made_of(checked)):
            raise FingerprintMismatch(
                f"{EDITED}: {', '.join(edited)}",
                "run the same command again to score with what is there now; or put back what was there",
            )
        run = RunDirectory.of(job.output)
        if claimed.before.last is not None and not self._units.whole and not job.output.exists():
            begin_anew_where_mended(run, checked.preflight)
        if checked.is_complete():
            return Verdict(COMPLETE, "complete already"), 0
        epoch = start(checked, partial(self._begin, run, claimed.taken_over))
        self._ranks.give(epoch)
        self._scored = True
        log = self._directory.worlds / self._world.id / "output.log"
        seen = see_through(self._ranks, run, epoch, log, self._stop, self._asked)
        verdict = blame_other_rows(self._units, checked.preflight.facts.row, seen)
        self._tally.gained = self._tally.gained or gained(epoch)
        report = Report.load(epoch.report)
        return verdict, report.rows if report is not None else 0

    def _begin(self, run: RunDirectory, taken_over: bool, job: Job, preflight: Preflight) -> Epoch:
        """Claim the next start of a unit's own run."""
        run.path.mkdir(exist_ok=True)
        epoch = run.begin(self._world.job, order=local.order(job, preflight), takes_over=taken_over)
        epoch.log.write_text(f"its ranks write to {self._directory.worlds / self._world.id / 'output.log'}\n")
        return epoch


def _of_error(error: Exception) -> Verdict:
    known = as_verdict(error)
    return Verdict(known.exit_code, known.what, known.remedy)
