"""Profiles: measured speed and memory of members on kinds of device, and the book that keeps them."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, astuple, dataclass, field, replace
from pathlib import Path
from typing import Any

from hpcens.specs import MemberSpec

# Runs whose speeds are kept, of each kind of device.
_KEPT = 9


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
        return hashlib.sha256("\0".join(asdict(self).values()).encode()).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class BatchProfile:
    """One batch size, measured: rows/s (median), bytes of activation workspace, spread of the rows/s.

    spread  (fastest − slowest) / median over the repetitions
    """

    batch: int
    rows_per_second: float
    workspace: int
    spread: float


@dataclass(frozen=True, slots=True)
class Profile:
    """One member on one kind of device.

    weights         resident bytes the loaded member adds to its process
    context         bytes of the process before any member was loaded
    load_seconds    time to build the module and load its weights
    output_shape    shape of one row of output
    batches         what was measured, by batch size; sizes that do not fit or cannot win are absent
    tried           batch sizes that were asked for, whether or not they came to be measured
    difference      the largest by which it differed from eager on rows of the dataset, see `profiler.difference`
    refused         why the member cannot run in this runtime, or was not tried; else empty
    worth_from      rows of a dataset from which it will be tried; None where that is no matter of rows
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

    @property
    def best(self) -> float:
        """Rows/s at the fastest batch size, 0 where none was measured."""
        return max((of.rows_per_second for of in self.batches.values()), default=0.0)


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
    """

    member: MemberSpec
    keys: Mapping[str, ProfileKey]
    batch_sizes: tuple[int, ...]
    seconds: float
    rows: int
    tolerance: float
    thorough: bool
    eager: Profile | None = None


def profile_from_dict(raw: dict[str, Any]) -> Profile:
    batches = {b["batch"]: BatchProfile(**b) for b in raw.pop("batches").values()}
    shape, tried = tuple(raw.pop("output_shape")), tuple(raw.pop("tried"))
    return Profile(batches=batches, output_shape=shape, tried=tried, **raw)


@dataclass(frozen=True, slots=True)
class LinkKey:
    """What a link's measurement holds for: the kind of device at its far end, and whether another node is there."""

    kind: str
    apart: bool

    @property
    def digest(self) -> str:
        return hashlib.sha256(f"{self.kind}\0{self.apart}".encode()).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class Link:
    """From a reader to a device: bytes/s of large messages, and seconds that a message takes beside its bytes."""

    bytes_per_second: float
    message_seconds: float


class ProfileBook:
    """A folder of profiles, one file a key; several runs may read and write it at once. What runs measured of links and
    of kinds of device is in folders inside it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @staticmethod
    def default() -> ProfileBook:
        """$HPCENS_CACHE, else the user's cache folder."""
        root = os.environ.get("HPCENS_CACHE") or os.path.join(
            os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "hpcens"
        )
        return ProfileBook(Path(root) / "profiles")

    @property
    def prepared(self) -> Path:
        """Folder in which runtimes keep what took long to prepare."""
        return self.folder.parent / "prepared"

    def get(self, key: ProfileKey) -> Profile | None:
        """The stored profile; None where there is none or the file is damaged."""
        try:
            raw = json.loads((self.folder / f"{key.digest}.json").read_text())
            if raw.pop("key") != asdict(key):
                return None
            return profile_from_dict(raw)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None

    def put(self, key: ProfileKey, profile: Profile) -> None:
        """Keep a profile. Batch sizes that only an earlier one tried are kept with it."""
        before = self.get(key)
        if before is not None:
            kept = {size: batch for size, batch in before.batches.items() if size not in profile.tried}
            tried = tuple(sorted({*before.tried, *profile.tried}))
            apart = max(before.difference, profile.difference) if kept else profile.difference
            profile = replace(profile, batches={**kept, **profile.batches}, tried=tried, difference=apart)
        _write(self.folder / f"{key.digest}.json", {"key": asdict(key)} | asdict(profile))

    def link(self, key: LinkKey) -> Link | None:
        """As a run measured it last; None where none did or the file is damaged."""
        try:
            raw = json.loads((self._links / f"{key.digest}.json").read_text())
            return Link(**raw["link"]) if raw["key"] == asdict(key) else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def put_link(self, key: LinkKey, link: Link) -> None:
        _write(self._links / f"{key.digest}.json", {"key": asdict(key), "link": asdict(link)})

    def links(self) -> Iterator[tuple[LinkKey, Link]]:
        """All that are in the book."""
        for path in sorted(self._links.glob("*.json")):
            try:
                key = LinkKey(**json.loads(path.read_text())["key"])
            except (OSError, ValueError, KeyError, TypeError):
                continue
            if link := self.link(key):
                yield key, link

    @property
    def _links(self) -> Path:
        return self.folder / "links"

    def reached(self, kind: str) -> list[float]:
        """What the latest runs reached on devices of the kind, in parts of the profiled rows/s; the last one last."""
        try:
            raw = json.loads(self._kind(kind).read_text())
            return [float(part) for part in raw["reached"]] if raw["kind"] == kind else []
        except (OSError, ValueError, KeyError, TypeError):
            return []

    def kinds(self) -> list[str]:
        """Kinds of device of which runs have told what they reached."""
        found = []
        for path in sorted((self.folder / "kinds").glob("*.json")):
            with suppress(OSError, ValueError, KeyError, TypeError):
                found.append(str(json.loads(path.read_text())["kind"]))
        return found

    def put_reached(self, kind: str, part: float) -> None:
        _write(self._kind(kind), {"kind": kind, "reached": [*self.reached(kind), part][-_KEPT:]})

    def _kind(self, kind: str) -> Path:
        return self.folder / "kinds" / f"{hashlib.sha256(kind.encode()).hexdigest()[:32]}.json"

    def all(self) -> Iterator[tuple[ProfileKey, Profile]]:
        """Everything in the book, by kind of device and member."""
        keys = []
        for path in self.folder.glob("*.json"):
            try:
                keys.append(ProfileKey(**json.loads(path.read_text())["key"]))
            except (OSError, ValueError, KeyError, TypeError):
                continue
        for key in sorted(keys, key=astuple):
            if profile := self.get(key):
                yield key, profile

    def clear(self) -> int:
        """Forget everything, what was prepared too; how many profiles there were."""
        for folder in (self.prepared, self._links, self.folder / "kinds"):
            shutil.rmtree(folder, ignore_errors=True)
        paths = list(self.folder.glob("*.json"))
        for path in paths:
            path.unlink(missing_ok=True)
        return len(paths)

    def covers(self, key: ProfileKey, batch_sizes: Iterable[int], *, rows: float, tolerance: float) -> bool:
        """Whether nothing is left to measure for these batch sizes.

        All were tried, and one of them was measured; or the runtime differs by more than the tolerance, is refused,
        or not worth to be tried for so many rows.
        """
        profile = self.get(key)
        if profile is None:
            return False
        if profile.refused:
            return profile.worth_from is None or rows < profile.worth_from
        sizes = set(batch_sizes)
        measured = not sizes.isdisjoint(profile.batches) or profile.difference > tolerance
        return sizes <= set(profile.tried) and measured


def _write(path: Path, content: Mapping[str, Any]) -> None:
    """Whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    temporary.write_text(json.dumps(content, indent=1))
    temporary.replace(path)
