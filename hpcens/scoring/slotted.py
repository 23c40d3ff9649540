"""A reader's slots: as many as can be in use at once, and rows read into them."""

from __future__ import annotations

from hpcens.dataset import Source
from hpcens.planning.phases import Assignment
from hpcens.roles import room_of
from hpcens.scoring.division import Division
from hpcens.transports.ring import Ring, make_ring
from hpcens.vocabulary import Divided, Rows


class SlottedReading:
    """Read segments into slots, where there are any."""

    def __init__(self, source: Source, division: Division, assignment: Assignment) -> None:
        self._source, self._division, self._assignment = source, division, assignment
        self._ring: Ring | None = None

    def make_ring(self, most: int) -> Ring | None:
        """Make the slots, of `most` bytes together at most; None where there is no such memory."""
        readers, devices = self._assignment.rank_roles.readers, self._assignment.rank_roles.devices
        segmentation = self._assignment.phases[0].form.segmentation
        _, read_ahead = self._assignment.plan.bounds(len(readers))
        in_use = read_ahead + room_of(len(readers)) * len(devices)
        slot_bytes = self._source.bytes_of(min(segmentation.segment_rows, segmentation.rows))
        self._ring = make_ring(min(in_use, max(2, len(segmentation.numbers))), slot_bytes, most)
        return self._ring

    @property
    def slots(self) -> int | None:
        """Number of slots; None where there are none."""
        return None if self._ring is None else self._ring.slots

    def read(self, segment: int, slot: int | None) -> Rows | Divided:
        """Read what the phase's members score of a segment, into this slot; None: into memory of its own."""
        memory = None if slot is None or self._ring is None else self._ring.slot(slot)
        return self._division.read(segment, memory)
