"""The planning problem: devices, members, and what was measured of each on each kind of device."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from math import inf

from hpcens.vocabulary import Device, Profile


@dataclass(frozen=True, slots=True, kw_only=True)
class Passage:
    """What rows pass besides the devices; infinite where it was not measured.

    reading            rows/s one reader can take from disk
    together           rows/s that all the readers there may be take from disk at once
    link               bytes/s one reader can send
    disk               bytes/s one reducer can write
    message, sync      seconds of a message beside its bytes, and of a sync; None where not measured
    readers, reducers  of them there may be at most
    """

    reading: float = inf
    together: float = inf
    link: float = inf
    disk: float = inf
    message: float | None = None
    sync: float | None = None
    readers: int = 1
    reducers: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """All that a planner may know.

    devices     the devices there are
    members     member names, in member order
    profiles    (kind of device, member, runtime) → profile
    held        bytes of a device that input and output segments in flight occupy
    reading     rows/s one reader can take from disk (inf where it was not measured)
    together    rows/s that all readers there may be take from disk at once (inf likewise)
    sending     rows/s one reader can send, each to one device
    writing     rows/s of which one reducer can take in and write all outputs
    readers, reducers  of them there may be at most
    rows        rows to score (0 where that is not known)
    seconds     about how long a planner may search for better placements and better bounds
    """

    devices: tuple[Device, ...]
    members: tuple[str, ...]
    profiles: Mapping[tuple[str, str, str], Profile]
    held: int = 0
    reading: float = inf
    together: float = inf
    sending: float = inf
    writing: float = inf
    readers: int = 1
    reducers: int = 1
    rows: int = 0
    seconds: float = 8.0

    @property
    def passing(self) -> float:
        """Rows/s that pass all readers and reducers there may be, each row sent once."""
        passed = min(self.read_by(self.readers), self.readers * self.sending)
        return min(passed, self.reducers * self.writing)

    def read_by(self, readers: int) -> float:
        """Rows/s that so many take from disk: between one and all of them evenly more, since the more there are the
        less each adds."""
        if readers == 1 or self.together == inf:
            return readers * self.reading
        return self.reading + (self.together - self.reading) * (readers - 1) / (self.readers - 1)

    def within(self, batch_sizes: Iterable[int], rows: int) -> Problem:
        """The problem of scoring `rows` rows with batch sizes out of these; a batch larger than the
        dataset never fills, so of those only the smallest may stay, where there is no other."""
        sizes = set(batch_sizes)
        useful = {size for size in sizes if size <= rows} or {min(sizes)}
        profiles = {
            key: replace(
                profile,
                batches={b: p for b, p in profile.batches.items() if b in useful and p.rows_per_second > 0},
            )
            for key, profile in self.profiles.items()
        }
        return replace(self, profiles=profiles, rows=rows)
