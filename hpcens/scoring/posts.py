"""A rank's post: what it holds from phase to phase, by its role.

Posts take part in no collective: `rounds.Scoring`, which is the same on every rank, does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from hpcens.combining import tried_combiner
from hpcens.dataset import Source
from hpcens.engine import open_hardware, use_cores
from hpcens.planning.phases import Assignment, Phase
from hpcens.profiling import package_path
from hpcens.roles import Reader, Reducer, Worker, interleaved, shares_by_rank, turn
from hpcens.runs import Epoch, MaskedRows, RunDirectory, SpotCheck
from hpcens.scoring.division import Division
from hpcens.scoring.slotted import SlottedReading
from hpcens.scoring.writer import Writer
from hpcens.specs import prepared_together
from hpcens.transports import Role, Tasks, reader_tasks, reducer_tasks, worker_tasks
from hpcens.vocabulary import Progress
from hpcens.vocabulary.groups import group_by_member

if TYPE_CHECKING:
    from hpcens.engine import Engine


class Post(Protocol):
    """One rank's part in scoring."""

    def open(self, phase: Phase) -> None:
        """Get ready for a phase."""

    def role(self, missing: Sequence[int]) -> tuple[Role, Tasks] | None:
        """Return the role by which this rank helps to score segments of the phase, and what its thread does.

        Returns None where it does not help.
        """


class ReaderPost:
    """A reader's: the dataset, and how the plan divides the members of a phase among devices.

    report  called at the first reader with every group of segments that became durable
    """

    def __init__(
        self, rank: int, assignment: Assignment, run: RunDirectory, epoch: Epoch, report: Callable[[Progress], None]
    ) -> None:
        job = assignment.job
        self._rank = rank
        self._rank_roles = assignment.rank_roles
        self._plan = assignment.plan
        # those of a group run as one, whatever else they share
        self._together = prepared_together(job.spec.members) | group_by_member(self._plan.numerics.members)
        self._report = report
        self._source = Source(job.datasets, job.spec.dataset, job.limit)
        self._source.expect(assignment.preflight.facts.identity)
        self.division = Division(self._source, job.spec, run, epoch)
        self.slotted = SlottedReading(self._source, self.division, assignment)
        self._phase = assignment.phases[0]

    def open(self, phase: Phase) -> None:
        """Read for this phase from now on."""
        self._phase = phase
        self.division.open(phase)

    def role(self, missing: Sequence[int]) -> tuple[Reader, Tasks]:
        """Return the role that reads this reader's share of the segments, and what its thread does."""
        readers, devices, members = self._rank_roles.readers, self._rank_roles.devices, self._phase.members
        window, read_ahead = self._plan.bounds(len(readers))
        hostings = [hosting for hosting in self._plan.hostings if not hosting.speeds.keys().isdisjoint(members)]
        first = self._rank == readers[0]
        segments = [segment for segment in missing if turn(segment, readers) == self._rank]
        ranks = {device.name: rank for rank, device in devices.items()}
        parts = {member: part for member, part in self._plan.parts.items() if member in members}
        reader = Reader(
            segments=interleaved(segments, parts) if parts else segments,
            members=members,
            shares=shares_by_rank(hostings, ranks, self._plan.parts, self._together),
            devices=devices,
            reducers=self._rank_roles.reducers,
            first=None if first else readers[0],
            others=readers[1:] if first else (),
            window=window,
            read_ahead=read_ahead,
            slots=self.slotted.slots,
            batches={member: self._plan.numerics.members[member].batch for member in members},
        )
        return reader, reader_tasks(self.slotted.read, self._report)


class ReducerPost:
    """A reducer's: the rule, and what a phase writes.

    Raises the rule's error at once where it cannot work: before anything is scored.
    """

    def __init__(self, rank: int, assignment: Assignment, run: RunDirectory, epoch: Epoch) -> None:
        spec, preflight = assignment.job.spec, assignment.preflight
        self._rank = rank
        self._assignment = assignment
        self._run = run
        self._epoch = epoch
        outputs = assignment.phases[-1].form.outputs
        self._combiner = tried_combiner(spec, preflight.space, outputs, preflight.rule, assignment.shape)
        self._phase = assignment.phases[0]
        self._writer: Writer | None = None
        self._synced = 0.0

    @property
    def syncing(self) -> float:
        """Seconds it has waited for the disk so far."""
        return self._synced + (self._writer.result.syncing if self._writer is not None else 0.0)

    def open(self, phase: Phase) -> None:
        """Open what the phase writes, or join what the first reducer has opened."""
        reducers = self._assignment.rank_roles.reducers
        self._phase = phase
        self._writer = Writer(
            self._assignment,
            phase,
            self._combiner,
            run=self._run,
            epoch=self._epoch,
            place=reducers.index(self._rank),
            writers=len(reducers),
        )

    def missing(self) -> list[int]:
        """Return this reducer's segments that are not durable."""
        return self._writer.result.missing if self._writer is not None else []

    def read_back(self) -> list[int]:
        """Hold this reducer's durable segments against their checksums; return those that are missing then."""
        if self._writer is not None:
            self._writer.result.revoke_damaged()
        return self.missing()

    def masked(self) -> list[MaskedRows]:
        """Return what was masked, by member and cause, by any reducer in any start."""
        names = self._assignment.job.spec.member_names
        return [
            MaskedRows(names[member], cause, rows, first)
            for member, cause, rows, first in (self._writer.result.masked() if self._writer is not None else [])
        ]

    def role(self, missing: Sequence[int]) -> tuple[Reducer, Tasks] | None:
        """Return the role that combines and writes, and what its thread does."""
        if (writer := self._writer) is None:
            return None
        rank_roles = self._assignment.rank_roles
        window, _ = self._assignment.plan.bounds(len(rank_roles.readers))
        reducer = Reducer(
            members=self._phase.members,
            devices=rank_roles.devices,
            readers=rank_roles.readers,
            reducers=len(rank_roles.reducers),
            window=window,
            seconds=self._assignment.job.spec.fsync_seconds,
            routed=self._assignment.job.spec.routed or self._phase.stage > 0,
        )
        return reducer, reducer_tasks(writer.write, writer.result.flush)

    def close(self, summary: Mapping[str, Any] | None = None) -> None:
        """Close what the phase wrote. At the first reducer, once the others have closed, give it its name before.

        summary  of what is whole and gets its name; None where rows are missing, and at the other reducers
        """
        if (writer := self._writer) is None:
            return
        if summary is not None:
            writer.finish(summary)
        self._synced += writer.result.syncing
        writer.close()
        self._writer = None


@dataclass(slots=True)
class LoadedMembers:
    """What a device's rank keeps from one start to the next in the same MPI world: its engine, with its members.

    opened   for what the engine was opened
    made_of  what its members were made of; None where there are none, or not all
    """

    engine: Engine | None = None
    opened: object = None
    made_of: object = None

    def release(self) -> None:
        """Let go of the members: their device is needed for something else."""
        self.made_of = None
        if self.engine is not None:
            self.engine.clear()


class DevicePost:
    """A device's: an engine, and its members of a phase.

    loaded  what the start before has left, of which is used what fits
    shares  ranks of the readers whose rows it reads where they lie
    """

    shares: frozenset[int] = frozenset()

    def __init__(self, rank: int, assignment: Assignment, run: RunDirectory, loaded: LoadedMembers) -> None:
        self._assignment = assignment
        self._device = assignment.rank_roles.devices[rank]
        use_cores(self._device.cores)
        from hpcens.engine import Engine  # imports torch, which other ranks do without

        shape = assignment.shape if assignment.job.spec.bad_rows == "mask" else None
        from hpcens.scoring.spot_checks import SpotChecks

        segment_rows = assignment.plan.numerics.segment_rows
        opened = (self._device, shape, segment_rows)
        if loaded.engine is None or loaded.opened != opened:
            loaded.release()
            loaded.engine = Engine(open_hardware(self._device), shape, segment_rows=segment_rows)
            loaded.opened = opened
        if self._device.family == "cuda":
            loaded.engine.hardware.start_peak()  # measuring members is none of the run's
        self._loaded = loaded
        self._engine = loaded.engine
        self._checks = SpotChecks(assignment, run, self._engine, self._device.cores)

    def device_peak(self) -> int:
        """Return the bytes in use at most of the memory that a GPU has of its own, since it was opened; else 0."""
        return self._engine.hardware.peak() if self._device.family == "cuda" else 0

    @property
    def spot_checks(self) -> tuple[SpotCheck, ...]:
        """What was scored in eager too, by member."""
        return self._checks.found

    def open(self, phase: Phase) -> None:
        """Load the device's members of the phase, let go of those of the phase before.

        What is loaded stays where it would be made of the same: small files, or blocks, take less time than that.
        """
        from hpcens.runtimes import host

        assignment, device = self._assignment, self._device
        preflight, spec = assignment.preflight, assignment.job.spec
        instances = [instance for instance in assignment.plan.on(device.name) if instance.member in phase.members]
        made_of = (
            [(instance.member, instance.runtime, instance.batch, instance.group) for instance in instances],
            (spec, preflight.facts.names, preflight.space, preflight.digests),
            [(array.shape, array.dtype) for array in assignment.rows],
        )
        if self._loaded.made_of == made_of and not self._engine.ceilings:
            self._engine.rest()
        else:
            self._loaded.made_of = None
            host(
                self._engine,
                instances,
                spec=spec,
                inputs=preflight.facts.names,
                space=preflight.space,
                digests=preflight.digests,
                cores=device.cores,
                rows=assignment.rows,
                package=partial(package_path, preflight, device.kind),
            )
            self._loaded.made_of = made_of
        self._checks.open(phase)

    def role(self, missing: Sequence[int]) -> tuple[Worker, Tasks]:
        """Return the role that runs batches, and what its thread does."""
        rank_roles = self._assignment.rank_roles
        worker = Worker(readers=rank_roles.readers, reducers=rank_roles.reducers, shares=self.shares)
        return worker, worker_tasks(self._checks.around(self._engine.predict), self._engine.stage)


class Parked:
    """That of a rank without a role, which waits."""

    def open(self, phase: Phase) -> None:
        """Do nothing."""

    def role(self, missing: Sequence[int]) -> None:
        """Return None: a parked rank does not help."""


def take_post(
    rank: int,
    assignment: Assignment,
    run: RunDirectory,
    epoch: Epoch,
    report: Callable[[Progress], None],
    loaded: LoadedMembers,
) -> Post:
    """Open what a rank needs in every phase.

    report  called at the first reader with every group of segments that became durable
    loaded  what a device's rank has kept of the start before
    """
    rank_roles = assignment.rank_roles
    if rank in rank_roles.readers:
        return ReaderPost(rank, assignment, run, epoch, report)
    if rank in rank_roles.reducers:
        return ReducerPost(rank, assignment, run, epoch)
    return DevicePost(rank, assignment, run, loaded) if rank in rank_roles.devices else Parked()
