"""Scoring: the phases of one start, and the rounds of each.

A round scores what is missing; what reads back damaged is missing again.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from hpcens.closing import Usage, account, judge
from hpcens.combining import Combiner
from hpcens.errors import COMPLETE, HpcensError
from hpcens.events import Events
from hpcens.hands import reader_hands, reducer_hands, worker_hands
from hpcens.loading import host, open_engine
from hpcens.matrix import Plan
from hpcens.messages import Progress, Rows, Tally
from hpcens.phases import Phase
from hpcens.preflight import Preflight
from hpcens.roles.casting import Cast
from hpcens.roles.reader import Reader, shares_by_rank
from hpcens.roles.reducer import Reducer
from hpcens.roles.worker import Worker
from hpcens.rundir import Epoch, RunDirectory, Verdict, write_atomically
from hpcens.specs import Job
from hpcens.store.result import Result
from hpcens.store.source import Source
from hpcens.timeline import trace
from hpcens.transports import drive
from hpcens.writing import Writer

if TYPE_CHECKING:
    from hpcens.runtimes.engine import Engine
    from hpcens.transports.mpi import MpiWorld

_ROUNDS = 3


@dataclass(frozen=True, slots=True)
class Assignment:
    """What rank 0 decided before the first batch, for every rank.

    shape   of a member's output for one row
    phases  that are left, in their order; nearly always one
    rows    of the dataset, for each input: a whole batch of each member that is prepared for its runtime
    """

    job: Job
    preflight: Preflight
    cast: Cast
    plan: Plan
    shape: tuple[int, ...]
    phases: tuple[Phase, ...]
    rows: Rows


class Scoring:
    """One rank's part in it; the same lines on every rank."""

    def __init__(
        self, world: MpiWorld, run: RunDirectory, epoch: Epoch, assignment: Assignment, events: Events | None
    ) -> None:
        self._world = world
        self._run = run
        self._epoch = epoch
        self._job = assignment.job
        self._players = assignment.cast
        self._plan = assignment.plan
        self._assignment = assignment
        self._events = events
        world.timeline.keep = assignment.job.trace is not None
        self._phase = assignment.phases[0]
        self._segmentation = self._phase.form.segmentation
        self._done_rows = 0
        self._seconds = 0.0
        self._synced = 0.0
        self._tallies: dict[int, Tally] = {}
        self._combiner = world.work(self._open_rule) if world.rank == self._players.reducer else None
        self._result: Result | None = None
        self._writer: Writer | None = None
        self._source = self._open_source() if world.rank == self._players.reader else None
        self._engine = world.work(self._open_engine) if world.rank in self._players.devices else None

    def score(self) -> Verdict:
        """Phase after phase. The last one's result gets its final name, if all is there."""
        for phase in self._assignment.phases:
            self._phase = phase
            self._open()
            drained = self._rounds()
            left = self._missing() if drained else []
            if left or phase.last:
                break
            self._close({})
            if drained:
                break
        masked = self._masked()
        added = self._plan.members if self._assignment.preflight.stored else ()
        verdict = judge(self._segmentation, phase=phase, missing=left, drained=drained, added=added, masked=masked)
        synced = self._synced + (self._result.syncing if self._result is not None else 0.0)
        timeline = self._world.timeline
        usages = self._world.gather(Usage.now(self._players.role(self._world.rank), timeline.totals, synced))
        if self._job.trace is not None:
            spans = self._world.gather((self._players.role(self._world.rank), timeline.spans))
            if spans:
                write_atomically(self._job.trace, trace(spans))
        if self._events is not None:
            report = account(self._plan, self._players, self._tallies, self._seconds, usages)
            write_atomically(self._epoch.report, json.dumps(report | {"masked": masked}, indent=1))
        summary = {"rows": self._segmentation.rows, "masked": masked, "finished": time.time()}
        self._close(summary if verdict.code == COMPLETE else None)
        return verdict

    def _rounds(self) -> str:
        """Score what is missing of the phase, until it reads back whole or is drained; why it was, if it was."""
        drained = ""
        rounds = 0
        while (missing := self._missing(read_back=True)) and not drained:
            if rounds == _ROUNDS:
                raise HpcensError(
                    f"{len(missing)} segments read back damaged after {rounds} rounds",
                    "the file system loses data: check it",
                )
            drained = self._round(missing)
            rounds += 1
        return drained

    def _open(self) -> None:
        """What this rank needs for the phase."""
        world, phase = self._world, self._phase
        if self._combiner is not None:
            run = phase.directory(self._run)
            self._result = world.work(lambda: Result.open(run, self._epoch, phase.form))
            self._writer = Writer(
                self._job,
                self._assignment.preflight,
                self._plan,
                phase,
                combiner=self._combiner,
                run=self._run,
                result=self._result,
            )
        if self._engine is not None:
            world.work(partial(self._load, self._engine))

    def _close(self, summary: Mapping[str, Any] | None) -> None:
        """End the phase on every rank: nobody may speak of an end that has not come.

        summary  of what is whole and gets its name; None where rows are missing
        """
        if (result := self._result) is not None and self._writer is not None:
            self._synced += result.syncing
            self._writer.close()
            if summary is not None:
                output = self._job.output if self._phase.last else self._phase.directory(self._run).scored
                self._world.work(lambda: result.finish(output, summary))
            result.close()
            if summary is not None and self._phase.last:
                for path in self._run.phases():
                    path.unlink()
            self._result = self._writer = None
        self._everyone()

    def _masked(self) -> list[dict[str, Any]]:
        """What was masked, by member and cause: known to the reducer, told to all."""
        names = self._job.spec.member_names
        mine = [
            {"member": names[member], "cause": cause, "rows": rows, "first": first}
            for member, cause, rows, first in (self._result.masked() if self._result is not None else [])
        ]
        return list(self._from_reducer(mine))

    def _from_reducer(self, mine: Any) -> Any:
        """What the reducer says, known to all; what the others say is not heard."""
        told = self._world.gather(mine)
        return self._world.broadcast(told[self._players.reducer] if told else None)

    def _everyone(self) -> None:
        """Go on once all ranks have come this far."""
        self._world.gather(None)
        self._world.broadcast()

    def _missing(self, *, read_back: bool = False) -> list[int]:
        """Known to the reducer, wanted by all. read_back: if nothing is, hold every segment against its checksum."""
        mine: list[int] = []
        if self._result is not None:
            mine = self._result.missing
            if read_back and not mine:
                self._world.work(self._result.revoke_damaged)
                mine = self._result.missing
        missing: list[int] = self._from_reducer(mine)
        if self._events is not None:
            self._done_rows = self._segmentation.rows - sum(map(self._segmentation.size, missing))
            self._report_progress(Progress((), 0))
        return missing

    def _round(self, missing: list[int]) -> str:
        """Drive this rank's role over the missing segments; why it was drained, if it was."""
        role = self._role(missing)
        began = time.monotonic()
        if role is not None:
            drive(role, self._world)
            self._world.settle()
            self._world.rest()
        drained = ""
        if isinstance(role, Reader):
            self._seconds += time.monotonic() - began
            for rank, tally in role.tallies.items():
                self._tallies[rank] = self._tallies.get(rank, Tally()) + tally
            drained = role.drained
        reason: str = self._world.broadcast(drained)
        return reason

    def _role(self, missing: list[int]) -> Reader | Reducer | Worker | None:
        world, players, plan, members = self._world, self._players, self._plan, self._phase.members
        if self._source is not None:
            source, segmentation = self._source, self._segmentation
            ranks = {device.name: rank for rank, device in players.devices.items()}
            shares = {(i.device, i.member): i.share for i in plan.instances if i.member in members}
            world.equip(reader_hands(lambda segment: source.read(segmentation, segment), self._report_progress))
            return Reader(
                segments=missing,
                members=members,
                shares=shares_by_rank(shares, ranks),
                devices=players.devices,
                reducer=players.reducer,
                window=plan.window,
                read_ahead=plan.read_ahead,
            )
        if self._result is not None and self._writer is not None:
            world.equip(reducer_hands(self._writer.write, self._result.flush))
            return Reducer(
                members=members,
                devices=players.devices,
                reader=players.reader,
                window=plan.window,
                seconds=self._job.spec.fsync_seconds,
            )
        if self._engine is not None:
            world.equip(worker_hands(self._engine.predict, self._engine.stage))
            return Worker(reader=players.reader, reducer=players.reducer)
        return None

    def _open_rule(self) -> Combiner:
        """The rule: one that cannot work fails before anything is scored."""
        spec, preflight = self._job.spec, self._assignment.preflight
        combiner = Combiner(spec, preflight.space, self._assignment.phases[-1].form.outputs, preflight.rule)
        combiner.try_out(self._assignment.shape)
        return combiner

    def _open_source(self) -> Source:
        source = Source(self._job.datasets, self._job.spec.dataset, self._job.limit)
        source.expect(self._assignment.preflight.facts.identity)
        return source

    def _open_engine(self) -> Engine:
        return open_engine(self._players.devices[self._world.rank], self._assignment.shape, self._job.spec)

    def _load(self, engine: Engine) -> None:
        """This device's members of the phase."""
        device, of = self._players.devices[self._world.rank], self._assignment
        instances = [i for i in self._plan.on(device.name) if i.member in self._phase.members]
        host(engine, device, instances, spec=self._job.spec, preflight=of.preflight, rows=of.rows)

    def _report_progress(self, progress: Progress) -> None:
        assert self._events is not None
        self._done_rows += sum(map(self._segmentation.size, progress.segments))
        self._events.add(
            "progress",
            rows=self._done_rows,
            of=self._segmentation.rows,
            in_flight=progress.in_flight,
            phase=self._phase.number,
            phases=self._phase.of,
        )
