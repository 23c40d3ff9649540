"""The planning problem: devices, members, and what was measured of each on each kind of device."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from math import inf

from hpcens.vocabulary import SEGMENT_BYTES, Device, IoRates, Profile


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """All that a planner may know.

    devices     the devices there are
    members     member names, in member order
    profiles    (kind of device, member, runtime) → profile
    row_bytes     bytes of one row of input
    output_bytes  bytes of one row of a member's output, the largest among the members
    held        bytes of a device that input and output segments in flight occupy
    rates       of the ranks that read, send and write; what was not measured limits nothing
    readers, reducers  of them there may be at most
    rows        rows to score (0 where that is not known)
    parts       member → the part of the rows that it scores, above 0; those that score all may be absent
    shared      whether devices of a reader's host read its rows where they lie, and only others are sent copies
    beside      rows/s of rows that are read and scored on one host, at most, see `bound.beside_readers`
    together    member → what is the same for members that compute something once for all of them on a device
    stages      of a cascade, each with its members: they are scored one after another; () where there is none
    segment_bytes  that a segment may have
    reached     kind of device → the part of the profiled rows/s at which its profiles are taken; absent: all
    groups      equal members that may run as one, name → members; they have to where they have no own profiles
    seconds     about how long a planner may search for better placements and better bounds
    """

    devices: tuple[Device, ...]
    members: tuple[str, ...]
    profiles: Mapping[tuple[str, str, str], Profile]
    row_bytes: int
    output_bytes: int
    held: int = 0
    rates: IoRates = field(default_factory=IoRates)
    readers: int = 1
    reducers: int = 1
    rows: int = 0
    seconds: float = 8.0
    parts: Mapping[str, float] = field(default_factory=dict)
    stages: tuple[tuple[str, ...], ...] = ()
    segment_bytes: int = SEGMENT_BYTES
    reached: Mapping[str, float] = field(default_factory=dict)
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    together: Mapping[str, str] = field(default_factory=dict)
    shared: bool = False
    beside: float = 0.0

    @property
    def reading(self) -> float:
        """Rows/s that one reader reads from disk."""
        return self.rates.read_by(1)

    @property
    def sending(self) -> float:
        """Rows/s that one reader sends, each to one device."""
        return inf if self.rates.link is None else self.rates.link / self.row_bytes

    @property
    def writing(self) -> float:
        """Rows/s of which one reducer takes in and writes all outputs."""
        return inf if self.rates.disk is None else self.rates.disk / self.output_bytes

    @property
    def hosts(self) -> tuple[str, ...]:
        """The hosts of the devices, in their order: a reader is on the first, each further one on the next."""
        return tuple(dict.fromkeys(device.host for device in self.devices))

    @property
    def passing(self) -> float:
        """Rows/s that pass all readers and reducers there may be, each row sent once, unless it need not be."""
        passed = min(self.rates.read_by(self.readers), self.beside + self.readers * self.sending)
        return min(passed, self.reducers * self.writing)

    @property
    def in_stages(self) -> tuple[Problem, ...]:
        """The problem of each stage of a cascade, by itself; this one alone where there is none."""
        alone = replace(self, stages=(), seconds=self.seconds / max(1, len(self.stages)))
        return tuple(replace(alone, members=members) for members in self.stages or (self.members,))

    def within(self, batch_sizes: Iterable[int], rows: int) -> Problem:
        """Return the problem of scoring `rows` rows with batch sizes out of these.

        A batch larger than the dataset never fills, so of those only the smallest may stay, where there is no other.
        """
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

    def per_row(self) -> Problem:
        """Return the problem with speeds that count rows of the dataset: a member that scores a part makes more."""
        if not self.parts:
            return self
        profiles = {key: profile.scaled(1 / self.parts.get(key[1], 1.0)) for key, profile in self.profiles.items()}
        return replace(self, profiles=profiles)
