"""Surveying: what rows pass besides the devices, measured before a run is planned by the ranks that will pass them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING

from hpcens.dataset.inspection import read_part, reading_speed
from hpcens.profiling.book import ProfileBook
from hpcens.result.disk import sync_seconds, writing_speed
from hpcens.roles.rank_roles import RankRoles
from hpcens.specs import Job
from hpcens.vocabulary import Device, Link, LinkKey

if TYPE_CHECKING:
    from hpcens.allocation.problem import Passage
    from hpcens.planning.job_planner import JobPlanner
    from hpcens.transports.mpi import MpiWorld


@dataclass(frozen=True, slots=True)
class Survey:
    """What only several ranks can measure: from the first reader to the farthest device; and rows/s of all that may
    read, at once (infinite where there is but one). Elsewhere than at rank 0 it says nothing."""

    link: Link | None
    together: float


def survey(world: MpiWorld, rank_roles: RankRoles, readers: Sequence[int], job: Job) -> Survey:
    """All ranks ask. readers: ranks that may be readers."""
    link = world.link(rank_roles.farthest)
    if len(readers) < 2:
        return Survey(link, inf)
    world.gather(None)
    world.broadcast()  # now, all of them
    part: tuple[int, float] | None = None
    if world.rank in readers:
        place = readers.index(world.rank)
        part = world.work(lambda: _read(job, place, len(readers)))
    found = [of for of in world.gather(part) if of]
    return Survey(link, sum(rows for rows, _ in found) / max(seconds for _, seconds in found) if found else inf)


def _read(job: Job, place: int, places: int) -> tuple[int, float]:
    """Rows that were read, each reader's its own, and the seconds it took."""
    began = time.perf_counter()
    rows = read_part(job.datasets, job.spec.dataset, job.limit, place / places)
    return rows, max(1e-6, time.perf_counter() - began)


def passage(opening: JobPlanner, devices: Sequence[Device], found: Survey, seats: tuple[int, int]) -> Passage:
    """At rank 0, with what it can measure by itself. seats: readers and reducers that there may be."""
    from hpcens.allocation.problem import Passage  # which ranks that do not plan have no use for

    job, (readers, reducers) = opening.job, seats
    alone = reading_speed(job.datasets, job.spec.dataset, job.limit)
    return Passage(
        reading=alone,
        together=max(alone, found.together),
        link=found.link.bytes_per_second if found.link else inf,
        disk=writing_speed(job.output.parent, opening.result_bytes(devices)),
        message=found.link.message_seconds if found.link else None,
        sync=sync_seconds(job.output.parent),
        readers=readers,
        reducers=reducers,
    )


def keep(found: Survey, rank_roles: RankRoles, book: ProfileBook) -> None:
    """Note the link in the book, for plans that are made without a world."""
    if found.link is not None:
        book.put_link(LinkKey(rank_roles.devices[rank_roles.farthest].kind, apart=rank_roles.apart), found.link)


def known_link(devices: Sequence[Device], book: ProfileBook) -> Link | None:
    """The slowest of the links to these devices that are in the book; None where one is not known."""
    apart = len({device.host for device in devices}) > 1
    links = [book.link(LinkKey(kind, apart)) for kind in dict.fromkeys(device.kind for device in devices)]
    known = [link for link in links if link]
    return min(known, key=lambda link: link.bytes_per_second) if known and len(known) == len(links) else None
