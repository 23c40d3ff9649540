"""A world that shares one dataset with others: it claims block after block, and once all are there their assembly.

the plan, by the first ─► blocks, by whoever comes ─► assembly, by whoever finds all blocks there

The numbers of all blocks are those that the plan has fixed; where each world places its members is its own matter.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

from hpcens.checks.preflight import Preflight
from hpcens.config import job_from_json
from hpcens.engine import discover
from hpcens.errors import COMPLETE, FAILURE, INCOMPLETE, MISMATCH, FingerprintMismatch, HpcensError
from hpcens.launch import local
from hpcens.launch.start import check_once
from hpcens.result import Decision, decision_of, fingerprint_of, torch_version
from hpcens.runs import AGAIN, Epoch, RunDirectory, Verdict, is_void
from hpcens.shell import quoted
from hpcens.specs import Job
from hpcens.units import Claimed, Kind, Outcome, Unit, UnitList, UnitsDirectory
from hpcens.units.blocks import assembly_of, blocks_of, open_units, planning, scoring, with_damaged_anew
from hpcens.units.claims import Standing
from hpcens.vocabulary import Segmentation
from hpcens.worlds.assembling import assemble
from hpcens.worlds.files import changed, job_of_unit, made_of
from hpcens.worlds.world import EDITED, Tally, UnitsWorld

_WAIT_SECONDS = 1.0
# Of so many blocks it is read how fast they were scored, before each claim; of so few nothing is concluded.
_LOOKS, _FEWEST_OTHERS = 3, 5


class BlocksWorld(UnitsWorld):
    """One world of a dataset that several share; parameters as those of `UnitsWorld`."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._others: dict[str, float] = {}  # attempt at a block → bytes/s; 0: of no use

    noun = "blocks"
    _fits = False  # whether this host is known to have devices of the kind that is fixed

    @property
    def _run(self) -> RunDirectory:
        """The run of the whole result."""
        return RunDirectory.of(Path(self._units.whole))

    def live(self) -> Tally:
        """Score until nothing is left for this world; see `UnitsWorld.live`."""
        try:
            tally = super().live()
        except (HpcensError, OSError) as error:
            if self._is_whole():  # the directories went with the last block, under a world that was taken for dead
                return self._tally
            if isinstance(error, FingerprintMismatch):
                self._directory.refuse(self._world.round, f"{error.what}; {error.remedy}")
            raise
        if tally.verdict is not None and tally.verdict.code == MISMATCH:
            self._directory.refuse(self._world.round, f"{tally.verdict.reason}; {tally.verdict.remedy}")
        return tally

    def _claimable(self) -> bool:
        if self._is_whole():
            return False
        self._follow()
        standings = self._directory.standings(self._units, self._world.round)
        return any(standings[unit.key].state in ("free", "held") for unit in open_units(self._units, standings))

    def _is_short(self) -> bool:
        return not self._is_whole() and super()._is_short()

    def _is_whole(self) -> bool:
        """Whether the result is there; what was kept for the blocks goes then."""
        result = Path(self._units.whole)
        if not result.exists() or fingerprint_of(result) != self._run.fixed_fingerprint:
            return False
        self._directory.retire()
        shutil.rmtree(self._run.blocks, ignore_errors=True)
        return True

    def _follow(self) -> None:
        """Take up the list that counts now, and write it where it is yet to be written."""
        units = self._directory.newest_list or self._units
        planned = bool(units.fingerprint) or _is_done(self._directory, units)  # asked before what it has led to is read
        decision = decision_of(self._run)
        wanted = units
        if decision is not None and units.fingerprint != decision.digest:
            plan = decision.plan
            wanted = scoring(
                units,
                self._run.blocks,
                decision.digest,
                Segmentation(plan.rows, plan.numerics.segment_rows),
                row_bytes=plan.row_bytes,
                seconds=plan.rows / plan.throughput,
                devices=len(plan.devices),
            )
        elif decision is None and planned:
            void = is_void(self._run.path, self._run.fixed_fingerprint)
            if not void and decision_of(self._run) is not None:  # another world has planned anew meanwhile
                self._follow()
                return
            if not void:
                raise HpcensError(
                    f"what was planned in {self._run.path} cannot be read: it is damaged",
                    f"begin anew: hpcens cancel {quoted(self._run.path)}, then rm -r {quoted(self._run.path)}",
                )
            wanted = planning(units)
        self._units = units if wanted is units else self._directory.keep(wanted, after=units.number)
        if decision is not None and not self._fits:
            self._require_kind(decision)
            self._fits = True

    def _require_kind(self, decision: Decision) -> None:
        """Raise FingerprintMismatch where this host cannot score under the numbers that are fixed."""
        fixed, torch = decision.plan.numerics, torch_version()
        kinds = {device.kind for device in discover(job_from_json(self._units.job).spec.devices)}
        if kinds.isdisjoint(fixed.kinds) or torch != fixed.torch:
            raise FingerprintMismatch(
                f"the numbers of {self._units.whole} are fixed for {', '.join(fixed.kinds)} and torch {fixed.torch};"
                f" here are {', '.join(sorted(kinds))} and torch {torch}",
                "join with devices of the same kind: --slurm constraint=…, or partition=…",
            )

    def _claim(self) -> Claimed | None:
        while not self._ended() and not self._is_whole():
            self._follow()
            standings = self._directory.standings(self._units, self._world.round)
            if (failed := self._failed(standings)) is not None:
                self._tally.verdict = failed
                break
            self._look_at_others(standings)
            claimed = self._claim_of(open_units(self._units, standings))
            if claimed is not None or self._units.fingerprint or not self._may_claim(self._units.units[0]):
                return claimed
            time.sleep(_WAIT_SECONDS)  # another world plans
        return None

    def _pace(self) -> float:
        """Return this world's pace, of that of others: a plan that expects too much of all makes none of them slow."""
        others = [speed for speed in self._others.values() if speed]
        if not self._warm or len(others) < _FEWEST_OTHERS:
            return 1.0
        size, seconds = map(sum, zip(*self._warm, strict=True))
        return size / seconds / median(others)

    def _look_at_others(self, standings: Mapping[str, Standing]) -> None:
        """Read how fast some blocks were scored that were not looked at before, this world's own too."""
        done = [(unit, standings[unit.key]) for unit in blocks_of(self._units) if standings[unit.key].state == "done"]
        ended = [(unit, each) for unit, standing in done for each in standing.attempts if each.kind == "done"]
        for unit, attempt in [pair for pair in ended if pair[1].name not in self._others][:_LOOKS]:
            outcome = self._directory.outcome(attempt)
            whole = outcome is not None and outcome.rows == unit.rows and outcome.seconds > 0
            self._others[attempt.name] = unit.bytes / outcome.seconds if outcome is not None and whole else 0.0

    def _may_claim(self, unit: Unit) -> bool:
        """Whether this world has time for a unit, and has not given it back before."""
        return unit.key not in self._tried and (self._ends is None or time.time() < self._ends)

    def _failed(self, standings: Mapping[str, Standing]) -> Verdict | None:
        """Return with what a unit has failed in this round: that ends all its worlds; None where none has."""
        for unit in self._units.units:
            standing = standings[unit.key]
            if standing.state != "failed":
                continue
            ended = [attempt for attempt in standing.attempts if attempt.kind == "failed"]
            outcome = self._directory.outcome(ended[-1])
            code, reason = (outcome.code, outcome.reason) if outcome else (FAILURE, "its record cannot be read")
            return Verdict(code, f"{unit.name}: {reason}", "mend it, and run the same command again")
        return None

    def _settle(self, claimed: Claimed, kind: Kind, outcome: Outcome) -> None:
        try:
            super()._settle(claimed, kind, outcome)
        except OSError:
            if not self._is_whole():  # another world has found the result there, and taken the claims away
                raise

    def _kind(self, verdict: Verdict, claimed: Claimed) -> Kind:
        if verdict.code == MISMATCH:  # this host's fault, or that of what is there now: others may go on
            self._tally.verdict = verdict
            return "left"
        return super()._kind(verdict, claimed)

    def _begin(self, run: RunDirectory, taken_over: bool, job: Job, preflight: Preflight) -> Epoch:
        if job.whole is not None:
            run.path.mkdir(exist_ok=True)
            run.adopt(self._decision().tree)
        return super()._begin(run, taken_over, job, preflight)

    def _decision(self) -> Decision:
        decision = decision_of(self._run)
        if decision is None:
            raise HpcensError("what was scored is void meanwhile", AGAIN)
        return decision

    def _verdict_of(self, unit: Unit, claimed: Claimed) -> tuple[Verdict, int]:
        if unit != assembly_of(self._units):
            return super()._verdict_of(unit, claimed)
        job = job_of_unit(self._units, unit)
        checked = check_once(job)
        if edited := changed(self._units.made_of, made_of(checked)):
            raise FingerprintMismatch(f"{EDITED}: {', '.join(edited)}", "put back what was there")
        if checked.is_complete():
            return Verdict(COMPLETE, "complete already"), 0
        order = local.order(job, checked.preflight)
        epoch = self._run.begin(self._world.job, order=order, takes_over=True)  # by the claim, which is one world's
        if self._is_whole():
            return epoch.judge(Verdict(COMPLETE, "complete already")), 0
        verdict, damaged = assemble(job, checked.preflight, epoch, blocks_of(self._units), self._asked)
        if verdict.code != COMPLETE and self._is_whole():  # by a world that was taken for dead: its journal counts
            self._run.journal(epoch).unlink(missing_ok=True)
            self._run.working(epoch.number).unlink(missing_ok=True)
            return epoch.judge(Verdict(COMPLETE, "complete already")), 0
        verdict = epoch.judge(verdict)
        if verdict.code == INCOMPLETE and not damaged:  # the disk is full, or the world is asked to end
            self._tally.verdict = self._tally.verdict or verdict
        if damaged:
            self._directory.keep(with_damaged_anew(self._units, damaged), after=self._units.number)
        return verdict, 0


def _is_done(directory: UnitsDirectory, units: UnitList) -> bool:
    """Whether the plan of a list has been made."""
    return directory.standings(units)[units.units[0].key].state == "done"
