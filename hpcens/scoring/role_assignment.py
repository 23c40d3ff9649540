"""Ranks say which node and devices they have; rank 0 assigns roles by it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hpcens.engine import discover, identities
from hpcens.planning.order import read_devices
from hpcens.roles import Hello, RankRoles, assign_roles
from hpcens.runs import Epoch
from hpcens.transports import unlink_shared_memory

if TYPE_CHECKING:
    from hpcens.transports.mpi import MpiWorld


def agree_on_roles(world: MpiWorld, epoch: Epoch) -> tuple[RankRoles, list[Hello]]:
    """Find this rank's devices, and agree on the role of every rank; all ranks call it.

    Returns the roles, and at rank 0 the hellos by which they were assigned; elsewhere none.
    """
    devices = discover(world.broadcast(read_devices(epoch) if world.rank == 0 else None))
    hellos = world.gather(Hello(world.rank, world.node, devices, world.library, identities(devices)))
    rank_roles: RankRoles = world.broadcast(assign_roles(hellos) if hellos else None)
    world.hang_bells()
    unlink_shared_memory()  # all ranks have mapped it: they have exchanged messages
    return rank_roles, hellos
