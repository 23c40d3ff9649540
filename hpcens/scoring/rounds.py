"""Scoring: the phases of one start, and the rounds of each.

A round scores what is missing; what reads back damaged is missing again.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any

from hpcens.combining.combiner import Combiner
from hpcens.dataset.source import Source
from hpcens.errors import COMPLETE, HpcensError, UsageError
from hpcens.files import write_atomically
from hpcens.planning.phases import Assignment
from hpcens.roles.dispatch import shares_by_rank, turn
from hpcens.roles.reader import Reader
from hpcens.roles.reducer import Reducer
from hpcens.roles.worker import Worker
from hpcens.runs import Epoch, Events, MaskedRows, ProgressMade, Report, RunDirectory, Verdict
from hpcens.scoring.instances import host, open_engine
from hpcens.scoring.outcome import account, judge, rank_report
from hpcens.scoring.writer import Writer
from hpcens.transports import drive
from hpcens.transports.tasks import reader_hands, reducer_hands, worker_hands
from hpcens.transports.timeline import trace
from hpcens.vocabulary import Progress, Tally

if TYPE_CHECKING:
    from hpcens.engine.engine import Engine
    from hpcens.transports.mpi import MpiWorld

_ROUNDS = 3


class Scoring:
    """One rank's part in it; the same lines on every rank."""

    def __init__(
        self, world: MpiWorld, run: RunDirectory, epoch: Epoch, assignment: Assignment, events: Events | None
    ) -> None:
        self._world = world
        self._run = run
        self._epoch = epoch
        self._job = assignment.job
        self._players = assignment.rank_roles
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
        self._combiner = world.work(self._open_rule) if world.rank in self._players.reducers else None
        self._writer: Writer | None = None
        self._first_reducer = bool(world.rank == self._players.reducers[0])
        self._source = self._open_source() if world.rank in self._players.readers else None
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
        synced = self._synced + (self._writer.result.syncing if self._writer is not None else 0.0)
        timeline = self._world.timeline
        ranks = self._world.gather(rank_report(self._players.role(self._world.rank), timeline.totals, synced))
        if self._job.trace is not None:
            spans = self._world.gather((self._players.role(self._world.rank), timeline.spans))
            if spans:
                write_atomically(self._job.trace, trace(spans))
        if self._events is not None:
            report = account(self._plan, self._players, self._tallies, self._seconds, ranks, masked)
            write_atomically(self._epoch.report, report.to_json())
            self._learn(report)
        summary = {"rows": self._segmentation.rows, "masked": list(map(asdict, masked)), "finished": time.time()}
        self._close(summary if verdict.code == COMPLETE else None)
        return verdict

    def _learn(self, report: Report) -> None:
        """What this start tells about plans, for the next."""
        from hpcens.planning.interference import learn  # of rank 0 alone

        with suppress(OSError, UsageError):  # plans are a little better for it, this run is not
            learn(self._job, self._assignment.preflight, self._plan, report)

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
        combiner = self._combiner
        if combiner is not None and self._first_reducer:
            self._open_writer(combiner)
        if self._engine is not None:
            self._world.work(partial(self._load, self._engine))
        if len(self._players.reducers) > 1:
            self._everyone()
            if combiner is not None and not self._first_reducer:
                self._open_writer(combiner)

    def _open_writer(self, combiner: Combiner) -> None:
        reducers = self._players.reducers
        self._writer = self._world.work(
            lambda: Writer(
                self._assignment,
                self._phase,
                combiner,
                run=self._run,
                epoch=self._epoch,
                place=reducers.index(self._world.rank),
                writers=len(reducers),
            )
        )

    def _close(self, summary: Mapping[str, Any] | None) -> None:
        """End the phase on every rank: nobody may speak of an end that has not come.

        summary  of what is whole and gets its name; None where rows are missing
        """
        if not self._first_reducer:
            self._close_writer()
        self._everyone()
        if self._first_reducer:
            if (writer := self._writer) is not None and summary is not None:
                self._world.work(lambda: writer.finish(summary))
            self._close_writer()
        self._everyone()

    def _close_writer(self) -> None:
        if self._writer is not None:
            self._synced += self._writer.result.syncing
            self._writer.close()
            self._writer = None

    def _masked(self) -> list[MaskedRows]:
        """What was masked, by member and cause: known to every reducer, told to all by the first."""
        names = self._job.spec.member_names
        mine = [
            MaskedRows(names[member], cause, rows, first)
            for member, cause, rows, first in (self._writer.result.masked() if self._writer is not None else [])
        ]
        return list(self._from_reducers(mine)[0])

    def _from_reducers(self, mine: Any) -> list[Any]:
        """What each reducer says, known to all; what the others say is not heard."""
        told = self._world.gather(mine)
        said: list[Any] = self._world.broadcast([told[rank] for rank in self._players.reducers] if told else None)
        return said

    def _everyone(self) -> None:
        """Go on once all ranks have come this far."""
        self._world.gather(None)
        self._world.broadcast()

    def _missing(self, *, read_back: bool = False) -> list[int]:
        """Known to the reducers, wanted by all. read_back: where nothing is, hold segments against their checksums."""
        missing = self._told_missing()
        if read_back and not missing:
            if self._writer is not None:
                self._world.work(self._writer.result.revoke_damaged)
            missing = self._told_missing()
        if self._events is not None:
            self._done_rows = self._segmentation.rows - sum(map(self._segmentation.size, missing))
            self._report_progress(Progress((), 0))
        return missing

    def _told_missing(self) -> list[int]:
        told = self._from_reducers(self._writer.result.missing if self._writer is not None else [])
        return sorted(segment for missing in told for segment in missing)

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
        world, rank_roles, plan, members = self._world, self._players, self._plan, self._phase.members
        readers, reducers = rank_roles.readers, rank_roles.reducers
        window, read_ahead = plan.bounds(len(readers))
        if (source := self._source) is not None:
            segmentation = self._segmentation
            ranks = {device.name: rank for rank, device in rank_roles.devices.items()}
            hostings = [of for of in plan.hostings if not of.speeds.keys().isdisjoint(members)]
            world.equip(reader_hands(lambda segment: source.read(segmentation, segment), self._report_progress))
            first = world.rank == readers[0]
            return Reader(
                segments=[segment for segment in missing if turn(segment, readers) == world.rank],
                members=members,
                shares=shares_by_rank(hostings, ranks),
                devices=rank_roles.devices,
                reducers=reducers,
                first=None if first else readers[0],
                others=readers[1:] if first else (),
                window=window,
                read_ahead=read_ahead,
            )
        if self._writer is not None:
            world.equip(reducer_hands(self._writer.write, self._writer.result.flush))
            return Reducer(
                members=members,
                devices=rank_roles.devices,
                readers=readers,
                reducers=len(reducers),
                window=window,
                seconds=self._job.spec.fsync_seconds,
            )
        if self._engine is not None:
            world.equip(worker_hands(self._engine.predict, self._engine.stage))
            return Worker(readers=readers, reducers=reducers)
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
        rows, phase = self._segmentation.rows, self._phase
        self._events.add(ProgressMade(self._done_rows, rows, progress.in_flight, phase.number, phase.of))
