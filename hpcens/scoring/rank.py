"""A rank's life: say hello, be given a role, measure, plan, then play a role until nothing is missing.

    hello → roles → profile → plan → (open the result → score what is missing → read back)* → finish

Every rank runs the same lines; what a line means depends on the role. Rank 0 decides and broadcasts.
A start takes as long as its ranks import: what not every rank needs at once is imported where it is needed.
"""

from __future__ import annotations

import faulthandler
import json
import os
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from hpcens.engine.discovery import discover, identities
from hpcens.engine.hardware import import_ahead
from hpcens.errors import COMPLETE, INCOMPLETE, as_verdict
from hpcens.processes import node
from hpcens.roles.rank_roles import Hello, RankRoles, assign_roles, check_world
from hpcens.runs import (
    DEFAULT_REQUEUES,
    DrainBegan,
    Epoch,
    Events,
    RunDirectory,
    SlurmJob,
    Verdict,
    WorldFormed,
    sign,
)
from hpcens.scoring.heartbeat import Heartbeat, leaves_unseen
from hpcens.specs import CpuSpec, CudaSpec, DevicesSpec, Job
from hpcens.transports.mpich import unname
from hpcens.vocabulary import Drain, Message

if TYPE_CHECKING:
    from hpcens.checks.preflight import Preflight

_OTHERS_SPEAK_FIRST = 5.0


class Rank:
    """One rank of one start of a run.

    tell  says a line to this rank's witness: who it is as JSON, or nothing but that it lives
    """

    def __init__(
        self, run: RunDirectory, epoch: Epoch, expected: int, launcher: str, tell: Callable[[str], None]
    ) -> None:
        from hpcens.transports.mpi import MpiWorld

        self._run = run
        self._epoch = epoch
        self._expected = expected
        self._launcher = launcher
        self._tell = tell
        self._events: Events | None = None
        self._stop = ""
        self._draining = False
        self._looked = 0.0
        self._heart = Heartbeat(epoch, node(), tell)
        self.heard: list[int] = []
        self.world = MpiWorld(self._heart.beat, self._notice)
        self.role = "reader" if self.world.rank == 0 else "starting"
        self._hear_signals()

    def live(self, *, only_profile: bool) -> Verdict:
        """All of it. Returns how the start ended, the same on every rank."""
        world = self.world
        rank = world.rank
        self._sign()
        check_world(world.size, self._expected, self._launcher)
        events = self._events = Events(self._epoch.events) if rank == 0 else None
        rank_roles, hellos = self._cast(world.broadcast(_read_devices(self._epoch) if rank == 0 else None))
        self._play(rank_roles.role(rank))
        if (device := rank_roles.devices.get(rank)) is not None and not only_profile:
            import_ahead(device)
        job, preflight = world.broadcast(_read_job(self._epoch) if rank == 0 else None)
        from hpcens.planning.opening import open_start

        assignment = open_start(
            world, self._run, self._epoch, job, preflight, rank_roles, hellos, events, only_profile=only_profile
        )
        if assignment is None:
            return Verdict(COMPLETE, "profiled")
        self._play(assignment.rank_roles.role(rank))
        from hpcens.scoring.rounds import Scoring

        return Scoring(world, self._run, self._epoch, assignment, events).score()

    def _play(self, role: str) -> None:
        if role != self.role:
            self.role = role
            self._sign()

    def _cast(self, spec: DevicesSpec) -> tuple[RankRoles, list[Hello]]:
        """The roles; and at rank 0 what they were given by."""
        devices = discover(spec)
        hello = Hello(self.world.rank, node(), devices, self.world.library, identities(devices))
        hellos = self.world.gather(hello)
        rank_roles: RankRoles = self.world.broadcast(assign_roles(hellos) if hellos else None)
        unname()
        self._heart.speak_for_node(self.world.rank in rank_roles.speakers.values())
        leads = [node for node, rank in rank_roles.speakers.items() if rank == 0]
        self._heart.watch(rank_roles.speakers if self._events is not None else leads)
        if self._events is not None:
            ranks = Counter(hello.node for hello in hellos)
            wheel = self.world.wheel and len(ranks) > 1
            self._events.add(WorldFormed(self.world.library, ranks, wheel, rank_roles.idle))
        return rank_roles, hellos

    def _sign(self) -> None:
        sign(self._epoch, self.world.rank, self.role)
        self._tell(json.dumps({"epoch": str(self._epoch.folder), "rank": self.world.rank, "role": self.role}))

    def _hear_signals(self) -> None:
        numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2)
        for number in numbers:
            signal.signal(number, self._signalled)
        faulthandler.register(signal.SIGUSR1)  # all threads' stacks into the log
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {*numbers, signal.SIGUSR1})

    def _signalled(self, number: int, frame: object) -> None:
        self.heard.append(number)
        self._stop = f"stopped by {signal.Signals(number).name}"

    def _notice(self) -> Message | None:
        """The reader's ear for signals and for the cancel file; the file is looked for twice a second."""
        if self._draining:
            return None
        if self.world.rank == 0 and not self._stop and time.monotonic() - self._looked > 0.5:
            self._looked = time.monotonic()
            if self._run.cancel.exists():
                self._stop = self._run.cancel.read_text().strip() or "cancelled"
        if not self._stop:
            return None
        self._draining = True
        if self._events is not None:
            self._events.add(DrainBegan(self._stop))
        return Drain(self._stop)


def _read_devices(epoch: Epoch) -> DevicesSpec:
    """Those the job wants: all that ranks need to be given roles by, and read at once."""
    of = json.loads(json.loads(epoch.job.read_text())["job"])["spec"]["devices"]
    return DevicesSpec(cpu=of["cpu"] and CpuSpec(**of["cpu"]), cuda=of["cuda"] and CudaSpec(**of["cuda"]))


def _read_job(epoch: Epoch) -> tuple[Job, Preflight]:
    """What this start is to do, as its launcher left it."""
    from hpcens.checks.preflight import Preflight
    from hpcens.config import job_from_json

    raw = json.loads(epoch.job.read_text())
    return job_from_json(raw["job"]), Preflight.from_json(raw["preflight"])


def main(
    run: Path,
    number: int,
    expected: int,
    launcher: str,
    tell: Callable[[str], None],
    *,
    only_profile: bool = False,
    slurm: SlurmJob | None = None,
) -> int:
    """Be a rank from start to end. An error is told to the verdict and ends the whole world.

    tell   says a line to this rank's witness (see `launch.witness`)
    slurm  the job that may be requeued
    """
    epoch = Epoch(run / "epochs" / f"{number:04d}")
    rank = Rank(RunDirectory(run), epoch, expected, launcher, tell)
    try:
        verdict = rank.live(only_profile=only_profile)
        if rank.world.rank == 0:
            _conclude(rank, RunDirectory(run), epoch, verdict, slurm)
        rank.world.broadcast()  # nobody leaves before the verdict is there: who does has died
        return verdict.code
    except BaseException as error:
        known = as_verdict(error)
        traceback.print_exc()
        who = f"rank {rank.world.rank} ({rank.role}) on {node()}"
        if rank.world.lost_peer(error):
            _let_others_speak(epoch)
        epoch.judge(Verdict(known.exit_code, f"{who}: {known.what}", known.remedy, rank.world.rank, rank.role))
        sys.stdout.flush()
        sys.stderr.flush()
        if leaves_unseen(epoch, error):
            os._exit(known.exit_code)
        rank.world.abort(known.exit_code)
        raise


def _conclude(rank: Rank, run: RunDirectory, epoch: Epoch, verdict: Verdict, slurm: SlurmJob | None) -> None:
    """Judge; where Slurm had warned of the job's end, put it back into the queue."""
    from hpcens.runs import requeue
    from hpcens.scheduler import jobs

    again = False
    reason = ""
    if slurm is not None and rank.heard and verdict.code == INCOMPLETE:
        answer = jobs.ask(slurm.id)
        if reason := requeue.why(rank.heard, answer):
            verdict = replace(verdict, reason=f"{reason}: {verdict.reason.partition(': ')[2]}")
        submission = run.submission
        bound = submission.requeues if submission and submission.id == slurm.submission else DEFAULT_REQUEUES
        verdict, again = requeue.decide(verdict, rank.heard, reason, len(requeue.requeues(run, slurm)), bound)
    epoch.judge(verdict)
    if again and slurm is not None:
        rank.world.work(partial(requeue.carry_out, epoch, slurm, reason))


def _let_others_speak(epoch: Epoch) -> None:
    """A rank that merely lost a message to one that died is not the one to name: the witness of the dead is."""
    deadline = time.monotonic() + _OTHERS_SPEAK_FIRST
    while epoch.verdict is None and time.monotonic() < deadline:
        time.sleep(0.05)
