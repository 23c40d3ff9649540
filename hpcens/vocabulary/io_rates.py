"""I/O rates: what rows and outputs pass besides the devices, as measured before a run is planned."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf


@dataclass(frozen=True, slots=True, kw_only=True)
class IoRates:
    """Rates of one rank that reads, sends or writes; None where a rate was not measured.

    reading           rows/s that one reader reads from disk
    reading_threads   by so many threads; None: where they were not told apart
    reading_together  rows/s that `readers_together` readers read from disk at once
    readers_together  readers that were measured at once
    link              bytes/s that one reader sends
    message_seconds   seconds of a message beside those of its bytes
    disk              bytes/s that one reducer writes
    sync_seconds      seconds of a sync beside those of its bytes
    """

    reading: float | None = None
    reading_threads: int | None = None
    reading_together: float | None = None
    readers_together: int = 1
    link: float | None = None
    message_seconds: float | None = None
    disk: float | None = None
    sync_seconds: float | None = None

    def read_by(self, readers: int) -> float:
        """Return the rows/s that so many readers read at once; infinite where reading was not measured.

        Between one reader and those measured at once each further one adds the same: the more there are, the less each
        adds, and how much less is not known.
        """
        one = inf if self.reading is None else self.reading
        if readers == 1 or self.reading_together is None:
            return readers * one
        return one + (self.reading_together - one) * (readers - 1) / (self.readers_together - 1)
