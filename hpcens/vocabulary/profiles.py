"""Profiles: measured speed and memory of members on kinds of device."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from math import inf
from statistics import median
from typing import Any

from hpcens.files import checked
from hpcens.specs import MemberSpec, Precision

_TOO_FAST = 1e15  # rows/s
_TOO_LATE = 1e11  # seconds since 1970
# A pass that got its core for less of the time was measured beside other work.
_LOADED = 2 / 3


@dataclass(frozen=True, slots=True)
class ProfileKey:
    """What a measurement holds for.

    kind       kind of device
    member     digest of the member: weights, code, arguments, preprocessing
    runtime    the way the member is executed
    row        shape and dtype of one row of input, as text
    torch      version of torch
    precision  of the member
    """

    kind: str
    member: str
    runtime: str
    row: str
    torch: str
    precision: str = "float32"

    @property
    def digest(self) -> str:
        """A name for files that is the same for the same key and differs for any other."""
        return hashlib.sha256("\0".join(asdict(self).values()).encode()).hexdigest()[:32]

    @property
    def package(self) -> str:
        """Name under which what takes long to prepare is kept: not that of networks whose complex numbers were cut."""
        return f"{self.digest}-2"


@dataclass(frozen=True, slots=True)
class BatchProfile:
    """One batch size, measured: rows/s (median), bytes of activation workspace, spread of the rows/s.

    spread      (fastest − slowest) / median over the repetitions
    passes      repetitions; 0: not known
    core_share  part of the time in which it wanted a core and got one, 0 … 1
    shared      part of the time that goes to what members with the same preparation compute once, 0 … 1
    times       of a group: how many times what its members made in eager, one after another, measured beside it; else 0
    """

    batch: int
    rows_per_second: float
    workspace: int
    spread: float
    passes: int = 0
    core_share: float = 1.0
    shared: float = 0.0
    times: float = 0.0

    def among(self, members: int) -> float:
        """Return the rows/s where so many members share what can be shared: each bears an equal part of it."""
        return self.rows_per_second / (1 - self.shared * (1 - 1 / members))

    @property
    def unshared(self) -> float:
        """Rows/s where others have computed what can be shared."""
        return self.rows_per_second / (1 - self.shared)


@dataclass(frozen=True, slots=True)
class Profile:
    """One member on one kind of device.

    weights         resident bytes the loaded member adds to its process
    context         bytes of the process before any member was loaded
    load_seconds    time to build the module and load its weights
    output_shape    shape of one row of output
    batches         what was measured, by batch size; sizes that do not fit or cannot win are absent
    tried           batch sizes that were asked for, whether or not they came to be measured
    difference      the largest by which it differed from eager on rows of the dataset, see `runtimes.agreement`
    refused         why the member cannot run in this runtime, or was not tried; else empty
    worth_from      rows of a dataset from which it will be tried; None where that is no matter of rows
    same_bits       whether equal calls gave the same bits
    name            of the member, when it was measured last; empty: not known
    measured        seconds since 1970 at which it was; 0: not known
    repeats         how often it was measured again since the machine was loaded before
    rounding        of a precision narrower than float32: the largest by which it differed from float32
    labels          part of the rows whose label, or one of whose labels, is another than in float32; 0 without classes
    judged          rows on which that was found out; 0: it was not
    driver          version of the GPU's driver; empty: not known, or of a CPU
    """

    weights: int
    context: int
    load_seconds: float
    output_shape: tuple[int, ...]
    batches: Mapping[int, BatchProfile] = field(default_factory=dict)
    tried: tuple[int, ...] = ()
    difference: float = 0.0
    refused: str = ""
    worth_from: int | None = None
    same_bits: bool = True
    name: str = ""
    measured: float = 0.0
    repeats: int = 0
    rounding: float = 0.0
    labels: float = 0.0
    judged: int = 0
    driver: str = ""

    @property
    def loaded(self) -> bool:
        """Whether it was measured on a machine that did other work meanwhile."""
        shares = [batch.core_share for batch in self.batches.values()]
        return bool(shares) and median(shares) < _LOADED

    @property
    def best(self) -> float:
        """Rows/s at the fastest batch size, 0 where none was measured."""
        return max((batch.rows_per_second for batch in self.batches.values()), default=0.0)

    def best_among(self, members: int) -> float:
        """Return the rows/s at the fastest batch size where so many members share; 0 where none was measured."""
        return max((batch.among(members) for batch in self.batches.values()), default=0.0)

    def scaled(self, factor: float) -> Profile:
        """Return the profile at so many times its rows/s."""
        return self.at_speeds({size: batch.rows_per_second * factor for size, batch in self.batches.items()})

    def sharing(self, parts: Mapping[int, float]) -> Profile:
        """Return the profile with other parts that can be shared. parts: of each of its batch sizes."""
        batches = {size: replace(batch, shared=parts[size]) for size, batch in self.batches.items()}
        return replace(self, batches=batches)

    def at_speeds(self, speeds: Mapping[int, float]) -> Profile:
        """Return the profile with other rows/s. speeds: of each of its batch sizes."""
        batches = {size: replace(batch, rows_per_second=speeds[size]) for size, batch in self.batches.items()}
        return replace(self, batches=batches)


@dataclass(frozen=True, slots=True)
class Measurement:
    """What one rank is asked to measure of a member on its device.

    keys         runtime → the key of its profile, in the order in which they are tried
    batch_sizes  to choose from
    seconds      time for all of it, where nothing is gained by more
    rows         of the dataset: what a runtime that takes long to prepare has to pay for
    tolerance    a runtime that differs more from eager is not timed
    thorough     try every runtime, whatever its preparation takes
    eager        the profile of eager, where it is known
    why          what is not known yet, in words
    rivals       precision → runtime → key, of narrower precisions that are held against float32
    pace         rows/s that the member is known to make in float32 at best; 0: not known
    precision_tolerance  by how much they may differ
    judges       whether it is of such a rival: all further rows are run
    members      of a group that is measured as one: `member` is the first of them, under the group's name
    """

    member: MemberSpec
    keys: Mapping[str, ProfileKey]
    batch_sizes: tuple[int, ...]
    seconds: float
    rows: int
    tolerance: float
    thorough: bool
    eager: Profile | None = None
    why: str = ""
    rivals: Mapping[Precision, Mapping[str, ProfileKey]] = field(default_factory=dict)
    pace: float = 0.0
    precision_tolerance: float = 0.0
    judges: bool = False
    members: tuple[MemberSpec, ...] = ()


def profile_from_dict(raw: dict[str, Any]) -> Profile:
    """Return a profile. Raises what JSON of the wrong kind raises, ValueError where a figure cannot be."""
    batches = {b["batch"]: checked(BatchProfile(**b)) for b in raw.pop("batches").values()}
    shape, tried = tuple(map(int, raw.pop("output_shape"))), tuple(map(int, raw.pop("tried")))
    profile = checked(Profile(batches=batches, output_shape=shape, tried=tried, **raw))
    if any(
        not 0 < batch.rows_per_second < _TOO_FAST
        or batch.batch < 1
        or batch.workspace < 0
        or not 0 <= batch.times < inf
        for batch in batches.values()
    ):
        raise ValueError("no batch is run so")
    if min(profile.weights, profile.context) < 0 or not 0 <= profile.load_seconds < inf:
        raise ValueError("no member is loaded so")
    if not (profile.rounding >= 0 and 0 <= profile.labels <= 1 and profile.judged >= 0):
        raise ValueError("nothing differs so")
    if not 0 <= profile.measured < _TOO_LATE or profile.repeats < 0:
        raise ValueError("nothing was measured then")
    if any(not 0 <= batch.core_share <= 1 or batch.passes < 0 for batch in batches.values()):
        raise ValueError("nothing is measured so")
    if any(not 0 <= batch.shared < 1 for batch in batches.values()):
        raise ValueError("nothing is measured so")
    return profile


@dataclass(frozen=True, slots=True)
class LinkKey:
    """What a link's measurement holds for: the kind of device at its far end, and whether another node is there."""

    kind: str
    apart: bool

    @property
    def digest(self) -> str:
        """A name for files that is the same for the same key and differs for any other."""
        return hashlib.sha256(f"{self.kind}\0{self.apart}".encode()).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class Link:
    """From a reader to a device: bytes/s of large messages, and seconds that a message takes beside its bytes."""

    bytes_per_second: float
    message_seconds: float
