"""Casting: which rank plays which role, from what the ranks found, not from the launcher's order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hpcens.devices import Device
from hpcens.errors import UsageError


@dataclass(frozen=True, slots=True)
class Hello:
    """What a rank says of itself: the node it is on, and the devices it sees there."""

    rank: int
    node: str
    devices: tuple[Device, ...]
    library: str


@dataclass(frozen=True, slots=True)
class Cast:
    """Roles by rank; ranks that have none park."""

    reader: int
    reducer: int
    devices: Mapping[int, Device]

    def role(self, rank: int) -> str:
        """The rank's role in words."""
        if rank == self.reader:
            return "reader"
        if rank == self.reducer:
            return "reducer"
        return f"device {self.devices[rank].name}" if rank in self.devices else "parked"


def cast(hellos: Sequence[Hello]) -> Cast:
    """Rank 0 reads, the next rank of its node reduces, and each device gets a rank of its node.

    Raises UsageError where a node has fewer ranks than its devices (and reader and reducer) need.
    """
    reader = hellos[0].rank
    by_node: dict[str, list[Hello]] = {}
    for hello in hellos:
        by_node.setdefault(hello.node, []).append(hello)
    beside = [hello.rank for hello in by_node[hellos[0].node] if hello.rank != reader]
    elsewhere = [hello.rank for hello in hellos if hello.rank != reader and hello.rank not in beside]
    reducer = next(iter([*beside, *elsewhere]), None)
    needed = 2 + sum(len(of[0].devices) for of in by_node.values())
    devices: dict[int, Device] = {}
    short: list[str] = []
    for node, of in by_node.items():
        free = [hello.rank for hello in of if hello.rank not in (reader, reducer)]
        if len(free) < len(of[0].devices):
            short.append(f"{node} has {len(of)} ranks and {len(of[0].devices)} devices")
        devices.update(zip(free, of[0].devices, strict=False))
    if reducer is None or short:
        raise UsageError(
            f"the plan needs {needed} ranks (reader, reducer, one a device); {len(hellos)} were started"
            + (f": {'; '.join(short)}" if short else ""),
            f"start {needed} ranks, or ask for fewer devices in the YAML",
        )
    if not devices:
        raise UsageError("no rank found a device", "check devices in the YAML, and nvidia-smi on the nodes")
    return Cast(reader, reducer, devices)


def check_world(size: int, expected: int, launcher: str) -> None:
    """Raises UsageError where the world is not the one that was started."""
    if size == 1 and expected > 1:
        raise UsageError(
            f"{launcher} started {expected} ranks, but each finds itself alone in a world of 1",
            "the launcher and this MPI do not speak to each other: start with the mpiexec of the MPI that mpi4py uses,"
            " or under Slurm with srun --mpi=pmi2 (or pmix; see srun --mpi=list)",
        )
    if size < expected:
        raise UsageError(f"the plan needs {expected} ranks; {launcher} started {size}", f"start {expected} ranks")
