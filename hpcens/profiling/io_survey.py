"""Survey I/O over the ranks of a start: what only several of them can measure, before the run is planned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from hpcens.dataset import read_part
from hpcens.specs import Job
from hpcens.vocabulary import Link

if TYPE_CHECKING:
    from hpcens.transports.mpi import MpiWorld


@dataclass(frozen=True, slots=True)
class IoSurvey:
    """What several ranks measured; elsewhere than at rank 0 it says nothing.

    link              from rank 0 to the device it was asked of
    reading_together  rows/s that all ranks which may be readers read at once; None where there is but one
    readers           ranks that may be readers
    """

    link: Link | None
    reading_together: float | None
    readers: int


def survey_io(world: MpiWorld, farthest: int, readers: Sequence[int], job: Job) -> IoSurvey:
    """Measure the link from rank 0 to the farthest device, and reading by several ranks; every rank calls it.

    farthest  rank of that device
    readers   ranks that may be readers
    """
    link = world.link(farthest)
    if len(readers) < 2:
        return IoSurvey(link, None, len(readers))
    world.gather(None)
    world.broadcast()  # all begin to read now
    part: tuple[float, float] | None = None
    if world.rank in readers:
        place = readers.index(world.rank) / len(readers)
        part = world.work(partial(read_part, job.datasets, job.spec.dataset, job.limit, place))
    parts = [read for read in world.gather(part) if read]
    together = sum(rows for rows, _ in parts) / max(seconds for _, seconds in parts) if parts else None
    return IoSurvey(link, together, len(readers))
