"""Segments: how the rows of a dataset are cut for reading, sending, combining and resuming."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import lcm

NO_SEGMENTS = (0, 0)
"""The part of a dataset whose start fixes the numbers of all parts, and scores nothing."""

_SEGMENT_BYTES = 8 << 20
_SEGMENT_SECONDS = 0.5
_SHORTEST_SECONDS = 0.02
_SEGMENTS_PER_DEVICE = 8
# Of a member that scores a part of the rows: full batches of a segment, so that the last, which is not full, costs
# little; how much larger a segment may be for it; and bytes of all segments that a reader then holds, three a device.
_FULL_BATCHES = 4
_LARGER = 32
_HELD_BYTES = 4 << 30
_HELD = 3


@dataclass(frozen=True, slots=True)
class Segmentation:
    """`rows` rows in segments of `segment_rows`; only the last may be shorter.

    first, stop  the part that is scored: its first segment, and the one after its last; None: up to the last of all.
                 Segments keep their numbers in the whole, which `len` counts
    """

    rows: int
    segment_rows: int
    first: int = 0
    stop: int | None = None

    def __post_init__(self) -> None:
        if self.rows < 0 or self.segment_rows < 1 or not 0 <= self.first <= self.numbers.stop <= len(self):
            raise ValueError(f"{self.rows} rows in segments of {self.segment_rows} is no segmentation")

    def __len__(self) -> int:
        return -(-self.rows // self.segment_rows)

    def bounds(self, segment: int) -> tuple[int, int]:
        """Return the first row of the segment and the row after its last."""
        if not 0 <= segment < len(self):
            raise IndexError(f"segment {segment} of {len(self)}")
        start = segment * self.segment_rows
        return start, min(start + self.segment_rows, self.rows)

    def size(self, segment: int) -> int:
        """Return the number of rows of the segment."""
        start, stop = self.bounds(segment)
        return stop - start

    @property
    def numbers(self) -> range:
        """Numbers of the part's segments."""
        return range(self.first, len(self) if self.stop is None else self.stop)

    @property
    def first_row(self) -> int:
        """The first row of the part."""
        return min(self.first * self.segment_rows, self.rows)

    @property
    def part_rows(self) -> int:
        """Number of rows of the part."""
        return min(self.numbers.stop * self.segment_rows, self.rows) - self.first_row


def batch_bounds(rows: int, batch: int) -> Iterator[tuple[int, int]]:
    """Cut `rows` rows of one segment into batches; the tail batch depends on the segment alone."""
    for start in range(0, rows, batch):
        yield start, min(start + batch, rows)


def choose_segment_rows(
    *,
    rows: int,
    row_bytes: int,
    rows_per_second: float,
    devices: int,
    batches: tuple[int, ...],
    filling: float = 0.0,
    copies: float = 1.0,
) -> int:
    """Choose the rows per segment: a multiple of every batch size, and small enough for three ends.

    A segment holds at most 8 MiB of input and half a second of the whole ensemble's work on one
    device, so that little is in flight when a run is killed. It leaves each device eight of them, so
    that the last ones end together, unless they would then be too short (20 ms) to hide what it
    costs to dispatch one; two for each device are left in any case. Where members score a part of the rows,
    it is larger, up to 256 MiB, until they fill their batches.

    rows             rows to score
    row_bytes        bytes of a row of input, or of a member's output where that is more
    rows_per_second  of the whole ensemble, as planned
    devices          number of devices that host members
    batches          batch sizes of the members
    filling          rows of which each member has a whole batch to score, where some score a part of all; else 0
    copies           of a row that a reader then holds
    """
    step = lcm(*batches)
    by_bytes = _SEGMENT_BYTES // max(1, row_bytes)
    by_seconds = int(_SEGMENT_SECONDS * rows_per_second / max(1, devices))
    by_balance = rows // max(1, devices * _SEGMENTS_PER_DEVICE)
    by_dispatch = min(int(_SHORTEST_SECONDS * rows_per_second / max(1, devices)), rows // max(1, 2 * devices))
    wanted = min(by_bytes, by_seconds, max(by_balance, by_dispatch))
    if filling:
        held = int(_HELD_BYTES / max(1, row_bytes) / max(1.0, copies) / max(4, _HELD * devices))
        filled = min(int(_FULL_BATCHES * filling), _LARGER * by_bytes, held, rows // max(1, 2 * devices))
        wanted = max(wanted, filled)
    return max(step, wanted // step * step)
