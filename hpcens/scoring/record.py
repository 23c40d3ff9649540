"""What rank 0 keeps of a start for people and for later plans: progress, the report, the trace."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace

from hpcens.errors import UsageError
from hpcens.planning.interference import learn
from hpcens.planning.phases import Assignment, Phase
from hpcens.runs import Epoch, Events, MaskedRows, ProgressMade, RankReport, SpotCheck
from hpcens.scoring.outcome import account, staged
from hpcens.scoring.sharing import Sharing
from hpcens.transports import Span, write_trace
from hpcens.vocabulary import Progress, Tally


class Record:
    """Keep what a start did, at rank 0 alone."""

    def __init__(self, epoch: Epoch, assignment: Assignment, events: Events) -> None:
        self._epoch = epoch
        self._assignment = assignment
        self._events = events
        self._phase = assignment.phases[0]
        self._durable_rows = 0
        self._tallies: dict[int, Tally] = {}
        self._seconds = 0.0
        self._broken: dict[str, None] = {}
        self._taken = 0

    def begin(self, phase: Phase, missing: Collection[int]) -> None:
        """Count the rows of a phase that are durable before a round of it, or after the last."""
        segmentation = phase.form.segmentation
        self._phase = phase
        self._durable_rows = segmentation.part_rows - sum(map(segmentation.size, missing))
        self.progress(Progress((), 0))

    def progress(self, progress: Progress) -> None:
        """Count segments that became durable, keep what broke, and say so to whoever watches."""
        self._broken |= dict.fromkeys([progress.failure] if progress.failure else ())
        self._taken += progress.taken
        phase, segmentation = self._phase, self._phase.form.segmentation
        self._durable_rows += sum(map(segmentation.size, progress.segments))
        of, place = segmentation.part_rows, (phase.number, phase.of)
        broken = tuple(self._broken)
        self._events.add(ProgressMade(self._durable_rows, of, progress.in_flight, *place, broken, self._taken))

    def add_round(self, tallies: Mapping[int, Tally], seconds: float) -> None:
        """Add what a round took.

        tallies  rank of a device → what it did
        seconds  from the first batch until the last row was durable
        """
        self._seconds += seconds
        for rank, tally in tallies.items():
            self._tallies[rank] = self._tallies.get(rank, Tally()) + tally

    def report(
        self,
        ranks: Sequence[RankReport],
        masked: Sequence[MaskedRows],
        checks: Sequence[SpotCheck] = (),
        scored: Sequence[int] = (),
        sharing: Sharing | None = None,
    ) -> None:
        """Write the report, and keep what it tells about plans for the next.

        scored   rows of each stage of a cascade, once the last has begun
        sharing  how devices come by rows; None where that is not known
        """
        assignment = self._assignment
        stages = staged(assignment.plan, assignment.job.spec.cascade, scored)
        measured = self._tallies, self._seconds, ranks, masked, checks, stages
        report = replace(
            account(assignment.plan, assignment.rank_roles, *measured), broken=tuple(self._broken), taken=self._taken
        )
        if sharing is not None:
            report = replace(report, sharing=sharing.devices, unregistered=sharing.unregistered)
        report.save(self._epoch.report)
        with suppress(OSError, UsageError):  # plans are a little better for it, this run is not
            learn(assignment.job, assignment.preflight, assignment.plan, report)

    def trace(self, ranks: Sequence[tuple[str, Sequence[Span]]]) -> None:
        """Write the trace the job asks for.

        ranks  role and spans of each rank, in rank order
        """
        if self._assignment.job.trace is not None:
            write_trace(self._assignment.job.trace, ranks)
