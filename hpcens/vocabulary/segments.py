"""Segments: how the rows of a dataset are cut for reading, sending, combining and resuming."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import lcm, log2

NO_SEGMENTS = (0, 0)
"""The part of a dataset whose start fixes the numbers of all parts, and scores nothing."""

SEGMENT_BYTES = 8 << 20
"""Of a segment, at most, where CPUs compute."""
OUTPUTS_HELD = 16 << 20
"""Bytes of outputs that a device may have on their way while it computes the next; one larger answer by itself."""
LARGEST_SEGMENT = 256 << 20
"""Of a segment where GPUs compute, bytes at most: as long as it computes, so long the next is on its way."""
_SHORTEST_SECONDS = 0.02
_SEGMENTS_PER_DEVICE = 8
# Of a member that scores a part of the rows: full batches of a segment, so that the last, which is not full, costs
# little; how much larger a segment may be for it; and bytes of all segments that a reader then holds, three a device.
_FULL_BATCHES = 4
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


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a segment's rows, which begins and ends where a batch of the member does.

    start  place of its first row in the segment
    whole  rows of the segment
    """

    start: int
    whole: int


def batch_bounds(rows: int, batch: int) -> Iterator[tuple[int, int]]:
    """Cut `rows` rows of one segment into batches; the tail batch depends on the segment alone."""
    for start in range(0, rows, batch):
        yield start, min(start + batch, rows)


@dataclass(frozen=True, slots=True)
class Pace:
    """Rows/s of a device on all that it hosts, and how many seconds of its work a segment may hold."""

    rows_per_second: float
    seconds: float


def choose_segment_rows(
    *,
    rows: int,
    row_bytes: int,
    paces: Sequence[Pace],
    devices: int,
    batches: tuple[int, ...],
    filling: float = 0.0,
    copies: float = 1.0,
    most_bytes: int = SEGMENT_BYTES,
    earlier: int | None = None,
) -> int:
    """Choose the rows per segment: a power of two of whole batches of every size, and small enough for three ends.

    A segment holds no more bytes than it may and no more of a device's work than its pace says, so that little is in
    flight when a run is killed. It leaves each device eight of them, so that the last ones end together, unless they
    would then be too short (20 ms) to hide what it costs to dispatch one; two for each device are left in any case.
    Where members score a part of the rows, it is larger, up to 256 MiB, until they fill their batches.

    Speeds measured anew move it by powers of two alone, and not at all away from an earlier choice that is still
    within the bounds and half to twice of what is wanted.

    rows        rows to score
    row_bytes   bytes of a row of input, or of a member's output where that is more
    paces       of the devices that host members
    devices     their number
    batches     batch sizes of the members
    filling     rows of which each member has a whole batch to score, where some score a part of all; else 0
    copies      of a row that a reader then holds
    most_bytes  of a segment
    earlier     rows per segment that an earlier plan of the same chose; None where there is none
    """
    step = lcm(*batches)
    by_bytes = most_bytes // max(1, row_bytes)
    by_seconds = min(pace.rows_per_second * pace.seconds for pace in paces)
    by_balance = rows // max(1, devices * _SEGMENTS_PER_DEVICE)
    by_dispatch = _SHORTEST_SECONDS * min(pace.rows_per_second for pace in paces)
    most = min(by_bytes, by_balance if by_balance >= by_dispatch else rows // max(1, 2 * devices))
    wanted = max(1.0, min(most, by_seconds, max(by_balance, by_dispatch)))
    if earlier is not None and earlier % step == 0 and earlier <= max(step, most) and 0.5 <= earlier / wanted <= 2:
        chosen = earlier
    else:
        chosen = step << max(0, round(log2(wanted / step)))
        while chosen > max(step, most):
            chosen >>= 1
    if filling:
        held = int(_HELD_BYTES / max(1, row_bytes) / max(1.0, copies) / max(4, _HELD * devices))
        filled = min(
            int(_FULL_BATCHES * filling), LARGEST_SEGMENT // max(1, row_bytes), held, rows // max(1, 2 * devices)
        )
        while 2 * chosen <= filled:
            chosen *= 2
    return chosen
