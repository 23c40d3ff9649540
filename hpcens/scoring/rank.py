"""One rank from start to end: take a role, help to open the start, score, conclude.

    hello → roles → profiles → plan → (open the result → score what is missing → read back)* → verdict

Every rank runs the same lines; what a line means depends on the role. Rank 0 decides and broadcasts.
A start takes as long as its ranks import: what not every rank needs at once is imported where it is needed.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from hpcens.engine import import_ahead, keep_to_cores, pin
from hpcens.engine.cuda_words import says_broken
from hpcens.errors import COMPLETE, FAILURE, INCOMPLETE, DeviceFailed, HpcensError, Silent, as_verdict
from hpcens.planning.order import read_order
from hpcens.roles import Hello, RankRoles, check_world
from hpcens.runs import Claim, Epoch, Events, RankReport, RunDirectory, SlurmJob, Verdict, WorldFormed, requeue, sign
from hpcens.runs.cancellation import asked_to_end
from hpcens.runs.epoch import superseded
from hpcens.scheduler.jobs import end_of
from hpcens.scoring.heartbeat import Heartbeat, leaves_unseen
from hpcens.scoring.role_assignment import agree_on_roles
from hpcens.scoring.stop_requests import StopRequests
from hpcens.transports import Timeline, library_from_wheel
from hpcens.transports.mpi import MpiWorld
from hpcens.vocabulary import NO_SEGMENTS, Message

if TYPE_CHECKING:
    from hpcens.scoring.device_post import LoadedMembers

# Seconds in which the witness of a rank that died can name it, before one that lost a message to it is named.
_WITNESS_FIRST_SECONDS = 5.0


class Seat:
    """What a rank keeps from one start to the next in the same MPI world: its view of it, roles, what it has loaded.

    tell   writes a line to this rank's witness: who the rank is, as JSON, or an empty one as a sign of life
    roles  of all ranks, and at rank 0 the hellos by which they were assigned; None before the first start
    loaded members, with the engine that runs them; None before the first start
    """

    def __init__(self, tell: Callable[[str], None]) -> None:
        self.tell = tell
        self.roles: tuple[RankRoles, list[Hello]] | None = None
        self.loaded: LoadedMembers | None = None
        self._beat: Callable[[], None] = lambda: None
        self._notice: Callable[[], Message | None] = lambda: None
        self.world = MpiWorld(lambda: self._beat(), lambda: self._notice())

    def release(self) -> None:
        """Let go of what is loaded."""
        if self.loaded is not None:
            self.loaded.release()

    def begin(self, beat: Callable[[], None], notice: Callable[[], Message | None]) -> None:
        """Begin a start: it gives other signs of life, and is asked to stop by other means."""
        self._beat, self._notice = beat, notice
        self.world.timeline = Timeline()


class Rank:
    """One rank of one start of a run.

    run    its directory; epoch: this start
    role   in words, for people
    """

    def __init__(self, run: RunDirectory, epoch: Epoch, seat: Seat) -> None:
        self._run = run
        self._epoch = epoch
        self._seat = seat
        self._tell = seat.tell
        self.stop = StopRequests()
        self.world = seat.world
        self._heartbeat = Heartbeat(epoch, self.world.node, seat.tell)
        seat.begin(self._heartbeat.beat, self.stop.notice)
        self.role = "reader" if self.world.rank == 0 else "starting"
        self.stop.catch_signals()

    def live(self, expected: int, launcher: str, *, only_profile: bool) -> Verdict:
        """Do all that a rank does; return how the start ended, the same on every rank.

        expected  ranks that were to be started
        launcher  what was to start them, as people know it
        """
        world, epoch = self.world, self._epoch
        lead = world.rank == 0
        self._sign()
        check_world(world.size, expected, launcher)
        events = Events(epoch.events) if lead else None
        if events is not None:
            claim = Claim.load(epoch.claim)
            names = claim.names if claim else frozenset()
            self.stop.watch(partial(asked_to_end, self._run.cancel, names), events)
        first = self._seat.roles is None
        rank_roles, hellos = self._seat.roles = self._seat.roles or agree_on_roles(world, epoch)
        self._watch_nodes(rank_roles)
        if events is not None:
            _add_world(events, world.library, rank_roles, hellos)
        self._take(rank_roles.role(world.rank))
        if first and rank_roles.gpus:
            pin(rank_roles.gpus.get(world.rank))
        if first and (device := rank_roles.devices.get(world.rank)) is not None:
            beside = [other for other in rank_roles.devices.values() if other.host == device.host]
            keep_to_cores(device, sum(other.cores for other in beside if other.family == "cpu"))
            if not only_profile:
                import_ahead(device)
        job, preflight = world.broadcast(read_order(epoch) if lead else None)
        from hpcens.planning.opening import open_start
        from hpcens.scoring.device_post import LoadedMembers
        from hpcens.scoring.rounds import Scoring

        assignment = open_start(
            world,
            self._run,
            epoch,
            job,
            preflight,
            rank_roles,
            hellos,
            events,
            only_profile=only_profile,
            release=self._seat.release,
        )
        if assignment is None:
            return Verdict(COMPLETE, "profiled")
        if job.segments == NO_SEGMENTS:
            return Verdict(COMPLETE, "planned: the numbers are fixed for all blocks")
        self._take(assignment.rank_roles.role(world.rank))
        loaded = self._seat.loaded = self._seat.loaded or LoadedMembers()
        return Scoring(world, self._run, epoch, assignment, events, loaded).score()

    def _take(self, role: str) -> None:
        """Take a role, and say so where it is another."""
        if role != self.role:
            self.role = role
            self._sign()

    def _sign(self) -> None:
        """Say who this rank is, in the run directory and to its witness."""
        sign(self._epoch, self.world.rank, self.role)
        self._tell(json.dumps({"epoch": str(self._epoch.folder), "rank": self.world.rank, "role": self.role}))

    def _watch_nodes(self, rank_roles: RankRoles) -> None:
        """Beat for this node where the rank is to; watch all nodes at rank 0, elsewhere rank 0's."""
        speakers, rank = rank_roles.speakers, self.world.rank
        self._heartbeat.speak_for_node(rank in speakers.values())
        self._heartbeat.watch([node for node, speaker in speakers.items() if rank == 0 or speaker == 0])
        self._heartbeat.tell_load(rank, self._load)

    def _load(self) -> RankReport | None:
        """Return what this rank did so far; None before it has done something."""
        if not (spent := dict(self.world.timeline.totals)):
            return None
        from hpcens.scoring.outcome import rank_report  # by then it has been imported

        return rank_report(self.role, spent, 0.0)


def _add_world(events: Events, library: str, rank_roles: RankRoles, hellos: Sequence[Hello]) -> None:
    ranks = Counter(hello.node for hello in hellos)
    wheel = library_from_wheel() and len(ranks) > 1
    events.add(WorldFormed(library, ranks, wheel, rank_roles.idle))


def main(
    run: Path,
    number: int,
    expected: int,
    launcher: str,
    tell: Callable[[str], None],
    *,
    only_profile: bool = False,
    slurm: SlurmJob | None = None,
    drain: int = 0,
    seat: Seat | None = None,
) -> int:
    """Be a rank from start to end; return its exit code. An error goes into the verdict and ends the whole world.

    number    of this start
    expected  ranks that were to be started, by the launcher
    tell      writes a line to this rank's witness (see `launch.witness`)
    slurm     the job that may be requeued
    drain     seconds before the job's time limit at which Slurm warns it; 0: not known
    seat      that this rank had in the start before, in the same MPI world; None: this is the first
    """
    directory, epoch = RunDirectory(run), Epoch(run / "epochs" / f"{number:04d}")
    rank = Rank(directory, epoch, seat or Seat(tell))
    if slurm is not None and drain and rank.world.rank == 0:
        rank.stop.expect_limit(float(os.environ.get("SLURM_JOB_END_TIME") or 0), drain, partial(end_of, slurm.id))
    try:
        verdict = rank.live(expected, launcher, only_profile=only_profile)
        if rank.world.rank == 0:
            _conclude(rank, directory, epoch, verdict, slurm)
        rank.world.broadcast()  # nobody leaves before the verdict is there: who does has died
        return verdict.code
    except BaseException as error:
        _fail(rank, epoch, error)
        raise


def _conclude(rank: Rank, run: RunDirectory, epoch: Epoch, verdict: Verdict, slurm: SlurmJob | None) -> None:
    """State how the start ended; where Slurm had warned of the job's end, put it back into the queue."""
    reason = ""
    if slurm is not None and rank.stop.signals and verdict.code == INCOMPLETE:
        verdict, reason = requeue.interpret(run, slurm, verdict, rank.stop.signals)
    epoch.judge(verdict)
    if slurm is not None and reason:
        rank.world.work(partial(requeue.carry_out, epoch, slurm, reason))


def _fail(rank: Rank, epoch: Epoch, error: BaseException) -> None:
    """State that the start ended by this error, and end the whole world, or where MPI is not to know, this process."""
    ending = superseded(epoch) if epoch.successor.exists() else as_verdict(error)
    who = f"rank {rank.world.rank} ({rank.role}) on {rank.world.node}"
    if rank.world.lost_peer(error):
        _wait_for_witness(epoch)
    gpu_failed = ending.exit_code == FAILURE and says_broken(ending.what)
    node = error.node if isinstance(error, Silent | DeviceFailed) else rank.world.node if gpu_failed else ""
    epoch.judge(Verdict(ending.exit_code, f"{who}: {ending.what}", ending.remedy, rank.world.rank, rank.role, node))
    with contextlib.suppress(OSError):  # judged first: where the disk is full, printing ends this process
        sys.stdout.flush()
        known = isinstance(error, HpcensError) and error.__cause__ is None
        # at once: other ranks may fail in the same way, and the first that aborts ends this one in the middle of a line
        sys.stderr.write(f"{who}: {error}\n" if known else traceback.format_exc())
        sys.stderr.flush()
    if leaves_unseen(epoch, error):
        os._exit(ending.exit_code)
    rank.world.abort(ending.exit_code)


def _wait_for_witness(epoch: Epoch) -> None:
    """Let the witness of a rank that died name it, not this rank, which merely lost a message to it."""
    deadline = time.monotonic() + _WITNESS_FIRST_SECONDS
    while epoch.verdict is None and time.monotonic() < deadline:
        time.sleep(0.05)
