"""Let the devices of a reader's host read its rows where they lie: who can, and in how many slots."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from hpcens.processes.memory import free_memory, host_memory
from hpcens.scoring.device_post import DevicePost
from hpcens.scoring.posts import Post, ReaderPost
from hpcens.transports.ring import RingAddress, join_ring

if TYPE_CHECKING:
    from hpcens.transports.mpi import MpiWorld

_MOST_BYTES = 4 << 30
# Of the host's memory devices are given nine tenths: half of the last one at most, and of what is free a quarter.
_HOST_PARTS, _FREE_PARTS = 20, 4


def most_bytes() -> int:
    """Return the bytes that a ring may take of this host's memory."""
    return min(_MOST_BYTES, host_memory() // _HOST_PARTS, free_memory() // _FREE_PARTS)


def share_rows(world: MpiWorld, post: Post) -> int:
    """Make each reader's ring, and let devices join those that they can reach; every rank calls it.

    Returns, at rank 0, the number of devices that read all rows where a reader has put them.
    """
    ring = world.work(partial(post.slotted.make_ring, most_bytes())) if isinstance(post, ReaderPost) else None
    gathered = world.gather(None if ring is None else ring.address)
    rings: dict[int, RingAddress] = world.broadcast({rank: of for rank, of in enumerate(gathered) if of is not None})
    if not rings:
        return 0
    joined = {}
    if isinstance(post, DevicePost):
        joined = {reader: found for reader, address in rings.items() if (found := join_ring(address)) is not None}
        world.rings.read(joined)
        post.shares = frozenset(joined)
    answers = world.gather(tuple(joined))
    readers_of: list[tuple[int, ...]] = world.broadcast(answers, to=sorted(rings)) or []
    if ring is not None:
        world.rings.write(ring, [rank for rank, readers in enumerate(readers_of) if world.rank in readers])
        ring.conceal()
    return sum(len(readers) == len(rings) for readers in answers)
