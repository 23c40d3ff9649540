"""The book: profiles and what runs measured of links and kinds of device, kept as files for later plans."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, astuple, replace
from pathlib import Path
from typing import Any

from hpcens.cache import cache_folder, keep_in_cache, shared_cache
from hpcens.files import MALFORMED, checked
from hpcens.vocabulary import Link, LinkKey, Profile, ProfileKey, profile_from_dict

FORMAT = 2
"""Of the profiles that are kept. Those of format 1, which did not say so, are measured anew: the difference from eager
was taken as a part of the values' size, on the rows for which the runtime was prepared."""
# Runs whose speeds are kept, of each kind of device.
_KEPT = 9
# Where the machine was loaded again each time, others will always work there: so often it is tried.
_REPEATS = 2
# What the cache refused to keep: this process goes on with it.
_UNKEPT: dict[Path, str] = {}


class ProfileBook:
    """A folder of profiles, one file a key; several runs may read and write it at once.

    What runs measured of links and of kinds of device is in folders inside it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @staticmethod
    def default() -> ProfileBook:
        """Open the book in the user's cache folder."""
        return ProfileBook(cache_folder() / "profiles")

    @property
    def prepared(self) -> Path:
        """Folder in which runtimes keep what took long to prepare."""
        return self.folder.parent / "prepared"

    def get(self, key: ProfileKey) -> Profile | None:
        """Return the stored profile, else that of the site's cache; None where there is none or it is damaged."""
        own = self._get(self.folder, key)
        return own if own is not None or (site := shared_cache()) is None else self._get(site / "profiles", key)

    def _get(self, folder: Path, key: ProfileKey) -> Profile | None:
        try:
            raw = _read(folder / f"{key.digest}.json")
            if raw.pop("key") != asdict(key) or raw.pop("format") != FORMAT:
                return None
            return profile_from_dict(raw)
        except (OSError, *MALFORMED):
            return None

    def put(self, key: ProfileKey, profile: Profile) -> None:
        """Keep a profile. Batch sizes that only an earlier one tried are kept with it, unless under another driver."""
        before = self.get(key)
        if before is not None and not _other_driver(before, profile.driver):
            kept = {size: batch for size, batch in before.batches.items() if size not in profile.tried}
            tried = tuple(sorted({*before.tried, *profile.tried}))
            apart = max(before.difference, profile.difference) if kept else profile.difference
            same = profile.same_bits and (before.same_bits or not kept)
            batches = {**kept, **profile.batches}
            repeats = before.repeats + 1 if before.loaded and profile.loaded else 0
            profile = replace(profile, batches=batches, tried=tried, difference=apart, same_bits=same, repeats=repeats)
        _write(self.folder / f"{key.digest}.json", {"format": FORMAT, "key": asdict(key)} | asdict(profile))

    def link(self, key: LinkKey) -> Link | None:
        """Return the link as a run measured it last; None where none did or the file is damaged."""
        try:
            raw = _read(self._links / f"{key.digest}.json")
            return checked(Link(**raw["link"])) if raw["key"] == asdict(key) else None
        except (OSError, *MALFORMED):
            return None

    def put_link(self, key: LinkKey, link: Link) -> None:
        """Keep what was measured of a link: bytes per second, and seconds a message."""
        _write(self._links / f"{key.digest}.json", {"key": asdict(key), "link": asdict(link)})

    def links(self) -> Iterator[tuple[LinkKey, Link]]:
        """Yield all links in the book."""
        for path in sorted(self._links.glob("*.json")):
            try:
                key = checked(LinkKey(**json.loads(path.read_text())["key"]))
            except (OSError, *MALFORMED):
                continue
            if link := self.link(key):
                yield key, link

    @property
    def _links(self) -> Path:
        return self.folder / "links"

    def reached(self, kind: str) -> list[float]:
        """Return what parts of the profiled rows/s the latest runs reached on devices of a kind, the last one last."""
        try:
            raw = _read(self._kind(kind))
            return [float(part) for part in raw["reached"]] if raw["kind"] == kind else []
        except (OSError, *MALFORMED):
            return []

    def kinds(self) -> list[str]:
        """Return kinds of device of which runs have noted what they reached."""
        kinds = []
        for path in sorted((self.folder / "kinds").glob("*.json")):
            with suppress(OSError, *MALFORMED):
                kinds.append(str(json.loads(path.read_text())["kind"]))
        return kinds

    def put_reached(self, kind: str, part: float) -> None:
        """Keep what a run reached of the profiled rows/s on a kind of device; only the last runs are kept."""
        _write(self._kind(kind), {"kind": kind, "reached": [*self.reached(kind), part][-_KEPT:]})

    def _kind(self, kind: str) -> Path:
        return self.folder / "kinds" / f"{hashlib.sha256(kind.encode()).hexdigest()[:32]}.json"

    def memories(self) -> dict[str, int]:
        """Return kind of GPU → bytes of its memory, of those on which runs have begun."""
        memories = {}
        for path in sorted(self._memories.glob("*.json")):
            with suppress(OSError, *MALFORMED):
                raw = json.loads(path.read_text())
                memories[str(raw["kind"])] = int(raw["memory"])
        return memories

    def put_memory(self, kind: str, memory: int) -> None:
        """Keep how many bytes of memory a kind of GPU has; the larger number, where a run was to use less."""
        if memory > self.memories().get(kind, 0):
            path = self._memories / f"{hashlib.sha256(kind.encode()).hexdigest()[:32]}.json"
            _write(path, {"kind": kind, "memory": memory})

    @property
    def _memories(self) -> Path:
        return self.folder / "memories"

    def all(self) -> Iterator[tuple[ProfileKey, Profile]]:
        """Yield everything in the book, by kind of device and member."""
        keys = []
        for path in self.folder.glob("*.json"):
            try:
                keys.append(checked(ProfileKey(**json.loads(path.read_text())["key"])))
            except (OSError, *MALFORMED):
                continue
        for key in sorted(keys, key=astuple):
            if profile := self.get(key):
                yield key, profile

    def clear(self) -> int:
        """Forget everything, what was prepared too; how many profiles there were."""
        for folder in (self.prepared, self._links, self._memories, self.folder / "kinds"):
            shutil.rmtree(folder, ignore_errors=True)
        paths = list(self.folder.glob("*.json"))
        for path in paths:
            path.unlink(missing_ok=True)
        return len(paths)

    def lack(
        self,
        key: ProfileKey,
        batch_sizes: Iterable[int],
        *,
        rows: float,
        tolerance: float,
        idle: bool = False,
        driver: str = "",
    ) -> str:
        """Say what is left to measure for these batch sizes, in words; empty where nothing is.

        Nothing is where all were tried, and one of them was measured; or the runtime differs by more than the
        tolerance, is refused, or not worth to be tried for so many rows.
        idle    whether figures that were taken on a loaded machine are to be taken again
        driver  version of the GPUs' driver now; empty where it is not known
        """
        profile = self.get(key)
        if profile is None:
            return "not measured before"
        if _other_driver(profile, driver):
            return f"measured under driver {profile.driver}, and {driver} is here"
        if profile.refused:
            if profile.worth_from is None or rows < profile.worth_from:
                return ""
            return f"preparing {key.runtime} pays from {profile.worth_from:,} rows on"
        sizes = set(batch_sizes)
        if new := sorted(sizes - set(profile.tried)):
            known = sorted(sizes & set(profile.batches))
            again = f"; {_listed(known)} again, to compare with" if known else ""
            return f"batches of {_listed(new)} rows were not tried before{again}"
        if sizes.isdisjoint(profile.batches) and profile.difference <= tolerance:
            return "none of these batch sizes was measured"
        return "measured on a loaded machine" if idle and profile.loaded and profile.repeats < _REPEATS else ""

    def covers(self, key: ProfileKey, batch_sizes: Iterable[int], *, rows: float, tolerance: float) -> bool:
        """Return whether nothing is left to measure for these batch sizes and rows of the dataset, see `lack`."""
        return not self.lack(key, batch_sizes, rows=rows, tolerance=tolerance)


def _other_driver(profile: Profile, driver: str) -> bool:
    """Tell whether a profile is known to be of another driver of GPUs than this one."""
    return bool(profile.driver and driver) and profile.driver != driver


def _listed(numbers: Iterable[int]) -> str:
    return ", ".join(map(str, numbers))


def _write(path: Path, content: Mapping[str, Any]) -> None:
    text = json.dumps(content, indent=1)
    if keep_in_cache(path, text):
        _UNKEPT.pop(path, None)
    else:
        _UNKEPT[path] = text


def _read(path: Path) -> Any:
    return json.loads(_UNKEPT.get(path) or path.read_text())
