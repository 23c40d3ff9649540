"""A device's post: an engine and the members that it has loaded, which stay from one start to the next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from hpcens.engine import open_hardware, use_cores
from hpcens.planning.phases import Assignment, Phase
from hpcens.profiling import package_path
from hpcens.roles import Worker
from hpcens.runs import RunDirectory, SpotCheck
from hpcens.transports import Tasks, worker_tasks
from hpcens.transports.ring import Ring
from hpcens.vocabulary import Failed

if TYPE_CHECKING:
    from hpcens.engine import Engine, Guard


@dataclass(slots=True)
class LoadedMembers:
    """What a device's rank keeps from one start to the next in the same MPI world: its engine, with its members.

    guard    of its device
    opened   for what the engine was opened
    made_of  what its members were made of; None where there are none, or not all
    """

    engine: Engine | None = None
    guard: Guard | None = None
    opened: object = None
    made_of: object = None

    @property
    def failed(self) -> Failed | None:
        """What became of the device; None while it works."""
        return self.guard.failed if self.guard is not None else None

    def release(self) -> None:
        """Let go of the members: their device is needed for something else."""
        self.made_of = None
        if self.engine is not None and not self.failed:
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
        from hpcens.engine import Engine, Guard  # imports torch, which other ranks do without

        shape = assignment.shape if assignment.job.spec.bad_rows == "mask" else None
        from hpcens.scoring.spot_checks import SpotChecks

        segment_rows = assignment.plan.numerics.segment_rows
        opened = (self._device, shape, segment_rows)
        if loaded.engine is None or loaded.guard is None or (loaded.opened != opened and not loaded.failed):
            loaded.release()
            loaded.engine = Engine(open_hardware(self._device), shape, segment_rows=segment_rows)
            loaded.guard = Guard(loaded.engine.hardware)
            loaded.opened = opened
        if self._device.family == "cuda" and not loaded.failed:
            loaded.engine.hardware.start_peak()  # measuring members is none of the run's
        self._loaded = loaded
        self._engine, self._guard = loaded.engine, loaded.guard
        self._checks = SpotChecks(assignment, run, self._engine, self._device.cores)

    def join(self, rings: Mapping[int, Ring]) -> str:
        """Read rows of these readers where they lie; say why they are copied once more on the way, if they are."""
        self.shares = frozenset(rings)
        memory = [ring.memory for ring in rings.values()]
        why = self._guard.attempt(partial(self._engine.hardware.register, memory))
        return f"{self._device.name} ({why})" if why else ""

    def leave(self) -> None:
        """Read nothing more where readers have put it."""
        self._guard.attempt(self._engine.hardware.unregister)

    def device_peak(self) -> int:
        """Return the bytes in use at most of the memory that a GPU has of its own, since it was opened; else 0."""
        return self._guard.attempt(self._engine.hardware.peak) or 0 if self._device.family == "cuda" else 0

    @property
    def spot_checks(self) -> tuple[SpotCheck, ...]:
        """What was scored in eager too, by member."""
        return self._checks.found

    def open(self, phase: Phase) -> None:
        """Load the device's members of the phase, let go of those of the phase before; nothing where it is broken.

        What is loaded stays where it would be made of the same: small files, or blocks, take less time than that.
        """
        self._guard.attempt(partial(self._load, phase))

    def _load(self, phase: Phase) -> None:
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
        failed, readers = self._loaded.failed, rank_roles.readers
        worker = Worker(readers=readers, reducers=rank_roles.reducers, shares=self.shares, failed=failed)
        predict = self._guard.around(self._checks.around(self._engine.predict))
        return worker, worker_tasks(predict, self._guard.ahead(self._engine.stage))
