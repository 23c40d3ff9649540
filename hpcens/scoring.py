"""Scoring: the rounds of one start. Each scores what is missing; what reads back damaged is missing again."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from hpcens.closing import Usage, account, judge
from hpcens.combining import Combiner
from hpcens.errors import COMPLETE, HpcensError
from hpcens.events import Events
from hpcens.hands import reader_hands, reducer_hands, worker_hands
from hpcens.masking import masked_rows
from hpcens.matrix import Plan
from hpcens.messages import Bad, Progress, Rows, Tally, Write
from hpcens.opening import profile_key
from hpcens.preflight import Preflight
from hpcens.profiles import ProfileBook
from hpcens.roles.casting import Cast
from hpcens.roles.reader import Reader, shares_by_rank
from hpcens.roles.reducer import Reducer
from hpcens.roles.worker import Worker
from hpcens.rundir import Epoch, RunDirectory, Verdict, write_atomically
from hpcens.runtimes.hardware import use_cores
from hpcens.segments import Segmentation
from hpcens.specs import Job
from hpcens.store.finished import Finished
from hpcens.store.form import Form
from hpcens.store.result import Result
from hpcens.store.source import Source
from hpcens.transports import drive

if TYPE_CHECKING:
    from hpcens.runtimes.engine import Engine
    from hpcens.transports.mpi import MpiWorld

_ROUNDS = 3


@dataclass(frozen=True, slots=True)
class Assignment:
    """What rank 0 decided before the first batch, for every rank.

    shape  of a member's output for one row
    rows   of the dataset, for each input: a whole batch of each member that is prepared for its runtime
    """

    job: Job
    preflight: Preflight
    cast: Cast
    plan: Plan
    shape: tuple[int, ...]
    form: Form
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
        self._segmentation = Segmentation(assignment.preflight.facts.rows, self._plan.numerics.segment_rows)
        self._done_rows = 0
        self._seconds = 0.0
        self._tallies: dict[int, Tally] = {}
        self._result = world.work(self._open_result) if world.rank == self._players.reducer else None
        self._source = self._open_source() if world.rank == self._players.reader else None
        self._engine = world.work(self._load) if world.rank in self._players.devices else None

    def score(self) -> Verdict:
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
        masked = self._masked()
        left = self._missing() if drained else []
        added = self._plan.members if self._assignment.preflight.stored else ()
        verdict = judge(self._segmentation, missing=left, drained=drained, added=added, masked=masked)
        synced = self._result.syncing if self._result is not None else 0.0
        usages = self._world.gather(Usage.now(self._players.role(self._world.rank), synced))
        if self._events is not None:
            report = account(self._plan, self._players, self._tallies, self._seconds, usages)
            write_atomically(self._epoch.report, json.dumps(report | {"masked": masked}, indent=1))
        if (result := self._result) is not None:
            if verdict.code == COMPLETE:
                summary = {"rows": self._segmentation.rows, "masked": masked, "finished": time.time()}
                self._world.work(lambda: result.finish(self._job.output, summary))
            result.close()
        self._everyone()
        return verdict

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
        """Go on once all ranks have come this far: nobody may speak of an end that has not come."""
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
            self._tallies = role.tallies
            drained = role.drained
        reason: str = self._world.broadcast(drained)
        return reason

    def _role(self, missing: list[int]) -> Reader | Reducer | Worker | None:
        world, players, plan = self._world, self._players, self._plan
        if self._source is not None:
            source, segmentation = self._source, self._segmentation
            ranks = {device.name: rank for rank, device in players.devices.items()}
            world.equip(reader_hands(lambda segment: source.read(segmentation, segment), self._report_progress))
            return Reader(
                segments=missing,
                members=plan.members,
                shares=shares_by_rank({(i.device, i.member): i.share for i in plan.instances}, ranks),
                devices=players.devices,
                reducer=players.reducer,
                window=plan.window,
                read_ahead=plan.read_ahead,
            )
        if self._result is not None:
            world.equip(reducer_hands(self._writer(self._result), self._result.flush))
            return Reducer(
                members=plan.members,
                devices=players.devices,
                reader=players.reader,
                window=plan.window,
                seconds=self._job.spec.fsync_seconds,
            )
        if self._engine is not None:
            world.equip(worker_hands(self._engine.predict, self._engine.stage))
            return Worker(reader=players.reader, reducer=players.reducer)
        return None

    def _open_result(self) -> Result:
        """The result, and before it the rule: one that cannot work fails before anything is scored."""
        spec, preflight, form = self._job.spec, self._assignment.preflight, self._assignment.form
        self._combiner = Combiner(spec, preflight.space, form.outputs, preflight.rule)
        self._combiner.try_out(self._assignment.shape)
        self._stored = Finished(self._job.output) if preflight.stored else None
        return Result.open(self._run, self._epoch, form)

    def _open_source(self) -> Source:
        source = Source(self._job.datasets, self._job.spec.dataset, self._job.limit)
        source.expect(self._assignment.preflight.facts.identity)
        return source

    def _writer(self, result: Result) -> Callable[[Write], None]:
        """A segment → combined with what is stored, written; what was masked or ran in smaller batches is noted."""
        members = self._job.spec.member_names
        scored = {member: of.batch for member, of in self._plan.numerics.members.items()}
        stored = {member: f"members/{member}" for member in self._assignment.preflight.stored}

        def write(task: Write) -> None:
            values = dict(zip(scored, task.stack, strict=True))
            start, _ = self._segmentation.bounds(task.segment)
            bad: dict[str, tuple[Bad, ...]] = dict(zip(scored, task.bad, strict=True))
            masked = masked_rows(self._job.spec.bad_rows, start, bad)
            if self._stored is not None:
                rows = self._stored.read(task.segment, stored.values())
                values |= {member: rows[name] for member, name in stored.items()}
                masked = sorted({*masked, *self._stored.masked(task.segment)})
            used = dict(zip(scored, task.batches, strict=True))
            reduced = {i: used[m] for i, m in enumerate(members) if m in used and used[m] < scored[m]}
            combined = self._combiner.combine(task.segment, [values[m] for m in members], masked)
            result.write(task.segment, combined, reduced, {i: bad[m] for i, m in enumerate(members) if bad.get(m)})

        return write

    def _load(self) -> Engine:
        """This device's members, loaded and prepared."""
        device = self._players.devices[self._world.rank]
        use_cores(device.cores)
        from hpcens.runtimes.engine import Engine
        from hpcens.runtimes.hardware import open_hardware
        from hpcens.runtimes.members import load
        from hpcens.runtimes.recipe import Recipe

        spec, preflight = self._job.spec, self._assignment.preflight
        blank = self._assignment.shape if spec.bad_rows == "mask" else None
        hardware, prepared = open_hardware(device), ProfileBook.default().prepared
        engine = Engine(hardware, blank)
        hosted = {instance.member: instance for instance in self._plan.on(device.name)}
        for member in spec.members:
            if (instance := hosted.get(member.name)) is not None:
                build = partial(
                    load,
                    member,
                    spec,
                    inputs=preflight.facts.names,
                    space=preflight.space,
                    cores=device.cores,
                    digests=preflight.digests[member.name],
                )
                key = profile_key(preflight, member, device.kind, instance.runtime)
                recipe = Recipe(
                    build, instance.runtime, hardware, device.cores, self._assignment.rows, prepared / key.digest
                )
                again = recipe.make if recipe.fixed else None
                engine.host(member.name, recipe.make(instance.batch), batch=instance.batch, again=again)
        return engine

    def _report_progress(self, progress: Progress) -> None:
        assert self._events is not None
        self._done_rows += sum(map(self._segmentation.size, progress.segments))
        self._events.add("progress", rows=self._done_rows, of=self._segmentation.rows, in_flight=progress.in_flight)
