"""The loop of one start: phase after phase, each in rounds.

A round scores what is missing; what reads back damaged is missing again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import chain
from math import inf
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from hpcens.errors import COMPLETE, HpcensError
from hpcens.planning.phases import Assignment, Phase
from hpcens.roles import Reader
from hpcens.runs import Epoch, Events, MaskedRows, RunDirectory, SpotCheck, Verdict, in_all
from hpcens.scoring.device_post import DevicePost, LoadedMembers
from hpcens.scoring.joining import Joining
from hpcens.scoring.outcome import judge, rank_report
from hpcens.scoring.posts import ReaderPost, ReducerPost, take_post
from hpcens.scoring.record import Record
from hpcens.scoring.sharing import share_rows
from hpcens.transports import clock, drive

if TYPE_CHECKING:
    from hpcens.transports.mpi import MpiWorld

_ROUNDS = 3
Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Missing:
    """Segments that are not durable: how many, and at readers and rank 0 which."""

    count: int
    segments: Sequence[int]


class Scoring:
    """Score, together with all other ranks. The same lines run on every rank: here alone they wait for each other.

    events  of this start, at rank 0 alone
    loaded  what this rank has kept of the start before
    """

    def __init__(
        self,
        world: MpiWorld,
        run: RunDirectory,
        epoch: Epoch,
        assignment: Assignment,
        events: Events | None,
        loaded: LoadedMembers,
    ) -> None:
        self._world = world
        self._assignment = assignment
        self._record = Record(epoch, assignment, events) if events is not None else None
        report = self._record.progress if self._record is not None else lambda progress: None
        self._post = world.work(partial(take_post, world.rank, assignment, run, epoch, report, loaded))
        self._reducer = self._post if isinstance(self._post, ReducerPost) else None
        self._reader = self._post if isinstance(self._post, ReaderPost) else None
        self._sharing = share_rows(world, self._post)  # at rank 0: how devices come by rows
        self._to_load: Callable[[], None] | None = None  # of a device: members of the phase that it has not yet
        self._scored: Sequence[int] = ()  # rows of each stage of a cascade, at rank 0, once the last has begun
        self._joins = world.rank in assignment.rank_roles.reducers[1:]
        world.timeline.keep = assignment.job.trace is not None

    def score(self) -> Verdict:
        """Score phase after phase, until rows of one stay missing or the last is through; return how it ended."""
        for phase in self._assignment.phases:
            self._open(phase)
            missing, drained = self._rounds(phase)
            if missing.count or phase.last:
                break
            self._close({})
            if drained:
                break
        return self._conclude(phase, missing, drained)

    def _rounds(self, phase: Phase) -> tuple[Missing, str]:
        """Score what is missing, until it reads back whole or is drained; return what is missing, and why drained."""
        drained = ""
        rounds = 0
        while (missing := self._missing(phase)).count and not drained:
            if rounds == _ROUNDS:
                raise HpcensError(
                    f"{missing.count} segments read back damaged after {rounds} rounds",
                    "the file system loses data: check it",
                )
            drained = self._round(phase, missing.segments)
            rounds += 1
        return missing, drained

    def _round(self, phase: Phase, missing: Sequence[int]) -> str:
        """Run this rank's role over the missing segments; return why the first reader was drained, if it was.

        A device loads its members first, while rows are read and others begin.
        """
        drained = ""
        if (load := self._to_load) is not None:
            self._to_load = None
            self._world.work(load)
        if (role_and_tasks := self._post.role(missing)) is not None:
            role, tasks = role_and_tasks
            joining = Joining(self._world, partial(self._begin, phase, missing))
            self._world.timeline.since = inf
            self._world.start_tasks(tasks)
            drive(role, joining)
            self._world.finish_sends()
            self._world.stop_tasks()
            if isinstance(role, Reader):
                drained = role.drained
                if self._record is not None:
                    self._record.add_round(role.tallies, joining.seconds)
        reason: str = self._world.broadcast(drained)
        return reason

    def _missing(self, phase: Phase) -> Missing:
        """Return how many segments are not durable, and at readers which; where all are, read them back first."""
        missing = self._not_durable(phase, ReducerPost.missing)
        if not missing.count:
            missing = self._not_durable(phase, ReducerPost.read_back)
        if not missing.count:
            self._begin(phase, ())
        return missing

    def _begin(self, phase: Phase, missing: Sequence[int]) -> None:
        """Count at rank 0 what is durable, before a round or after the last; what ranks wait for from now on."""
        self._world.timeline.since = clock()
        if self._record is not None:
            self._record.begin(phase, missing)

    def _not_durable(self, phase: Phase, question: Callable[[ReducerPost], Sequence[int]]) -> Missing:
        """Ask reducers which segments are missing, and tell the readers; a bit each, of which there may be millions."""
        size = len(phase.form.segmentation)
        every = self._ask_reducers(lambda reducer: _packed(question(reducer), size))
        bits = np.bitwise_or.reduce(every) if every else None
        count: int = self._world.broadcast(None if bits is None else int(np.unpackbits(bits).sum()))
        if count:
            bits = self._world.broadcast(bits, to=self._assignment.rank_roles.readers)
        return Missing(count, [] if bits is None else np.flatnonzero(np.unpackbits(bits, count=size)).tolist())

    def _open(self, phase: Phase) -> None:
        """Open the phase on every rank: the first reducer before the others, which join what it has opened.

        Devices load their members when something is missing, and nothing for a stage of a cascade to which no row is
        left.
        """
        left = not phase.stage or self._is_left(phase)
        open_phase = partial(self._post.open, phase)
        if isinstance(self._post, DevicePost):
            self._to_load = open_phase if left else partial(self._post.open, replace(phase, members=()))
        elif not self._joins:
            self._world.work(open_phase)
        if len(self._assignment.rank_roles.reducers) > 1:
            self._everyone()
            if self._joins:
                self._world.work(open_phase)

    def _is_left(self, phase: Phase) -> bool:
        """Tell, on every rank, whether earlier stages have left this one a row."""
        if self._world.rank == 0 and self._reader is not None:
            division = self._reader.division
            self._world.work(partial(division.open, phase))
            scored: Sequence[int] = self._world.work(lambda: division.scored)
            self._scored = scored if phase.last else ()
            return bool(self._world.broadcast(scored[-1] > 0))
        return bool(self._world.broadcast())

    def _close(self, summary: Mapping[str, Any] | None) -> None:
        """End the phase on every rank: nobody goes on before the first reducer, the last to close, has closed.

        summary  of what is whole and gets its name; None where rows are missing
        """
        if self._reducer is not None and self._joins:
            self._world.work(self._reducer.close)
        self._everyone()
        if self._reducer is not None and not self._joins:
            self._world.work(partial(self._reducer.close, summary))
        self._everyone()

    def _conclude(self, phase: Phase, missing: Missing, drained: str) -> Verdict:
        """Judge and report, then close the phase; what is complete gets its final name."""
        world, assignment = self._world, self._assignment
        segmentation = phase.form.segmentation
        role, timeline = assignment.rank_roles.role(world.rank), world.timeline
        first = assignment.rank_roles.reducers[0]
        masked: Sequence[MaskedRows] = next(iter(self._ask_reducers(ReducerPost.masked)), ())
        masked = world.broadcast(masked, to=[first]) or ()
        verdict = self._judged(phase, missing, drained, masked)
        syncing = self._reducer.syncing if self._reducer is not None else 0.0
        peak = world.work(self._post.device_peak) if isinstance(self._post, DevicePost) else 0
        reports = world.gather(rank_report(role, timeline.totals, syncing, peak))
        checks = self._spot_checks()
        spans = world.gather((role, timeline.spans)) if timeline.keep else []
        if self._record is not None:
            self._record.trace(spans)
            self._record.report(reports, masked, checks, self._scored, self._sharing)
        scored = world.broadcast(self._scored, to=[first])
        summary = {"rows": segmentation.part_rows, "masked": list(map(asdict, masked)), "finished": time.time()}
        if checks:
            summary["spot_checks"] = [check.as_dict() for check in checks]
        if scored:
            names = [list(stage.members) for stage in assignment.job.spec.cascade]
            summary["cascade"] = [{"members": m, "rows": n} for m, n in zip(names, scored, strict=True)]
        self._close(summary if verdict.code == COMPLETE else None)
        if self._reader is not None:
            self._reader.division.close()
        if isinstance(self._post, DevicePost):
            world.work(self._post.leave)
        world.rings.close()
        return verdict

    def _judged(self, phase: Phase, missing: Missing, drained: str, masked: Sequence[MaskedRows]) -> Verdict:
        """Judge how the start ended, at rank 0, which knows what is missing; the same on every rank."""
        verdict = None
        if self._world.rank == 0:
            added = self._assignment.plan.members if self._assignment.preflight.stored else ()
            verdict = judge(
                phase.form.segmentation,
                phase=phase,
                missing=missing.segments,
                drained=drained,
                added=added,
                masked=masked,
                unscored=routed.unscored if (routed := self._assignment.preflight.facts.routed) else 0,
            )
        answer: Verdict = self._world.broadcast(verdict)
        return answer

    def _spot_checks(self) -> tuple[SpotCheck, ...]:
        """Add up what devices scored in eager too; at rank 0 and at the first reducer, who keep it."""
        every = self._world.gather(self._post.spot_checks if isinstance(self._post, DevicePost) else ())
        checks = in_all(chain(*every)) if every else ()
        return self._world.broadcast(checks, to=self._assignment.rank_roles.reducers[:1]) or ()

    def _ask_reducers(self, question: Callable[[ReducerPost], Answer]) -> list[Answer]:
        """Put a question to every reducer; return the answers, in the order of their turns, at rank 0; else none."""
        own = self._world.work(partial(question, self._reducer)) if self._reducer is not None else None
        every = self._world.gather(own)
        return [every[rank] for rank in self._assignment.rank_roles.reducers] if every else []

    def _everyone(self) -> None:
        """Go on once all ranks have come this far."""
        self._world.gather(None)
        self._world.broadcast()


def _packed(segments: Sequence[int], size: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Return a bit for each of `size` segments, set for these."""
    bits = np.zeros(size, bool)
    bits[list(segments)] = True
    return np.packbits(bits)
