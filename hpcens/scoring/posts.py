"""A rank's post: what it holds from phase to phase, by its role.

Posts take part in no collective: `rounds.Scoring`, which is the same on every rank, does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from hpcens.combining import tried_combiner
from hpcens.dataset import Source
from hpcens.planning.phases import Assignment, Phase
from hpcens.roles import Reader, Reducer, interleaved, shares_by_rank, turn
from hpcens.runs import Epoch, MaskedRows, RunDirectory
from hpcens.scoring.device_post import DevicePost, LoadedMembers
from hpcens.scoring.division import Division
from hpcens.scoring.slotted import SlottedReading
from hpcens.scoring.writer import Writer
from hpcens.specs import prepared_together
from hpcens.transports import Role, Tasks, reader_tasks, reducer_tasks
from hpcens.vocabulary import Progress
from hpcens.vocabulary.groups import group_by_member


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
        self._source = Source(job.datasets, job.spec.dataset, job.limit, self._plan.rates.reading_threads)
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
