"""Let the devices of a reader's host read its rows where they lie: who can, and in how many slots."""

from __future__ import annotations

from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True)
class Sharing:
    """How devices come by rows.

    devices       number of those that read all rows where a reader has put them
    unregistered  GPUs, each with the reason in words, on whose way rows are copied once more for it
    """

    devices: int = 0
    unregistered: tuple[str, ...] = ()


def most_bytes() -> int:
    """Return the bytes that a ring may take of this host's memory."""
    return min(_MOST_BYTES, host_memory() // _HOST_PARTS, free_memory() // _FREE_PARTS)


def share_rows(world: MpiWorld, post: Post) -> Sharing:
    """Make each reader's ring, and let devices join those that they can reach; every rank calls it.

    Returns, at rank 0, how devices come by their rows.
    """
    ring = world.work(partial(post.slotted.make_ring, most_bytes())) if isinstance(post, ReaderPost) else None
    gathered = world.gather(None if ring is None else ring.address)
    rings: dict[int, RingAddress] = world.broadcast({rank: of for rank, of in enumerate(gathered) if of is not None})
    if not rings:
        return Sharing()
    joined, why = {}, ""
    if isinstance(post, DevicePost):
        joined = {reader: found for reader, address in rings.items() if (found := join_ring(address)) is not None}
        world.rings.read(joined)
        why = world.work(partial(post.join, joined))
    answers: list[tuple[tuple[int, ...], str]] = world.gather((tuple(joined), why))
    readers_of: list[tuple[int, ...]] = world.broadcast([of for of, _ in answers], to=sorted(rings)) or []
    if ring is not None:
        world.rings.write(ring, [rank for rank, readers in enumerate(readers_of) if world.rank in readers])
        ring.conceal()
    return Sharing(sum(len(of) == len(rings) for of, _ in answers), tuple(why for _, why in answers if why))
