"""Even what was measured of members, one after another, while the machine did now more and now less beside it.

Members that differ in weights alone are as fast as each other, and what members are prepared by takes one time, whoever
asks for it: to each goes the median of what was measured of all.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from statistics import median

from hpcens.vocabulary import BatchProfile, Profile

Profiles = Mapping[str, Mapping[str, Profile]]
"""Member → runtime → profile."""


def evened(
    profiles: Profiles, alike: Mapping[str, Hashable], prepared: Mapping[str, str]
) -> dict[str, dict[str, Profile]]:
    """Return the profiles with such medians.

    alike     member → what is equal for members that differ in weights alone
    prepared  member → what is equal for members whose rows are prepared alike; empty where nothing can be shared
    """
    speeds: dict[Hashable, list[float]] = {}
    common: dict[Hashable, list[float]] = {}
    own: dict[Hashable, list[float]] = {}
    for member, runtime, size, batch in _batches(profiles):
        speeds.setdefault((alike[member], runtime, size), []).append(batch.rows_per_second)
        if prepared[member]:
            common.setdefault((prepared[member], runtime, size), []).append(batch.shared / batch.rows_per_second)
            own.setdefault((alike[member], runtime, size), []).append(1 / batch.unshared)

    def even(member: str, runtime: str, profile: Profile) -> Profile:
        even_speeds, parts = {}, {}
        for size, batch in profile.batches.items():
            seconds = median(common.get((prepared[member], runtime, size), [0.0]))
            if seconds:
                rest = median(own[alike[member], runtime, size])
                even_speeds[size], parts[size] = 1 / (seconds + rest), seconds / (seconds + rest)
            else:
                even_speeds[size], parts[size] = median(speeds[alike[member], runtime, size]), batch.shared
        return profile.sharing(parts).at_speeds(even_speeds)

    return {
        member: {runtime: even(member, runtime, profile) for runtime, profile in by_runtime.items()}
        for member, by_runtime in profiles.items()
    }


def _batches(profiles: Profiles) -> Iterator[tuple[str, str, int, BatchProfile]]:
    for member, by_runtime in profiles.items():
        for runtime, profile in by_runtime.items():
            for size, batch in profile.batches.items():
                yield member, runtime, size, batch
