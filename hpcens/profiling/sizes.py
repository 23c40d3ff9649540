"""Batch sizes to try: on CPUs a few, on GPUs powers of two up to memory, as long as larger ones gain something."""

from __future__ import annotations

from dataclasses import dataclass

from hpcens.vocabulary import LARGEST_SEGMENT, BatchProfile, Family

ON_CPUS = (8, 16, 32, 64, 128)
_LARGEST = 1 << 16
# What a batch twice as large has to gain on a GPU; where it does not twice in a row, no larger one is tried.
_GAIN = 1.03
_PATIENCE = 2
# Real rows that are read for measuring: larger batches repeat them.
_SAMPLE_BYTES = 64 << 20


def sizes_to_try(family: Family, row_bytes: int) -> tuple[int, ...]:
    """Return the batch sizes to choose from on a family of devices, where the YAML names none.

    row_bytes  bytes of one row of input: a batch on a GPU is no larger than the largest segment
    """
    if family == "cpu":
        return ON_CPUS
    larger = (1 << power for power in range(8, _LARGEST.bit_length()))
    return (*ON_CPUS, *(size for size in larger if size * row_bytes <= LARGEST_SEGMENT))


def rows_to_sample(largest: int, row_bytes: int) -> int:
    """Return how many rows to read for batches of up to `largest` rows."""
    return min(largest, max(ON_CPUS[-1], _SAMPLE_BYTES // max(1, row_bytes)))


@dataclass(slots=True)
class Growth:
    """Decide after each batch size whether larger ones are worth a try.

    top      rows/s of the fastest so far
    patient  whether sizes are tried on that gain nothing, as long as they lose little
    """

    top: float
    patient: bool
    _without_gain: int = 0

    def ends(self, speed: float, worth: float) -> bool:
        """Return whether the size just measured is the last. worth: part of the top below which it is."""
        gains = speed >= _GAIN * self.top
        self._without_gain = 0 if gains else self._without_gain + 1
        ends = speed < worth * self.top or (not self.patient and self._without_gain == _PATIENCE)
        self.top = max(self.top, speed)
        return ends


class GrowthOfMember:
    """Growth of a member, which others may share much of its time with: larger batches may gain for the rest alone.

    Among many members it is the rest that counts, by itself what is shared too: as long as one gains, none is the last.
    """

    def __init__(self, eager: BatchProfile | None, *, patient: bool) -> None:
        """Begin before the first size. eager: the fastest in eager, where that is known; patient: as of `Growth`."""
        self._whole = Growth(eager.rows_per_second if eager else 0.0, patient)
        self._own = Growth(eager.unshared if eager else 0.0, patient)

    def ends(self, measured: BatchProfile, worth: float) -> bool:
        """Return whether the size just measured is the last. worth: as of `Growth.ends`."""
        whole = self._whole.ends(measured.rows_per_second, worth)
        return self._own.ends(measured.unshared, worth) and whole
