"""Bundles: members that share what is computed before their networks, planned as one.

A device that runs all of a bundle on its rows pays f + Σ n seconds a row: what they share once, and each network. Taken
as one member of that cost, a bundle is placed as any other, and what is predicted of it is exact.

For a bound no member may be dearer than it can be anywhere. Whatever members a device runs on a row, of k in all, it
pays f once, and that is no less than f ÷ k for each: with members at n + f ÷ k, whatever the linear program says
bounds every placement, those too that part a bundle.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from statistics import mean

from hpcens.allocation.model import Choice, measured
from hpcens.allocation.problem import Problem
from hpcens.vocabulary import BatchProfile, Profile

# Less than this part of a member's time is not worth planning by.
_WORTH = 0.01


@dataclass(frozen=True, slots=True)
class Bundles:
    """Bundles of a problem.

    problem  in which each bundle is one member, by the name of its first
    members  bundle → its members
    ways     bundle, and how it runs → how each of its members does
    whole    the problem of the members themselves
    """

    problem: Problem
    members: Mapping[str, tuple[str, ...]]
    ways: Mapping[tuple[str, Choice], Mapping[str, Choice]]
    whole: Problem

    def members_of(self, names: Iterable[str]) -> tuple[str, ...]:
        """Return the members that these stand for, in member order."""
        wanted = {member for name in names for member in self.members.get(name, (name,))}
        return tuple(member for member in self.whole.members if member in wanted)

    def runs(self, runs: Mapping[str, Choice]) -> dict[str, Choice]:
        """Return how each member runs. runs: how bundles, and members by themselves, do."""
        expanded: dict[str, Choice] = {}
        for name, choice in runs.items():
            expanded |= self.ways.get((name, choice), {name: choice})
        return expanded

    def speeds(self, kind: str, speeds: Mapping[str, float], runs: Mapping[str, Choice]) -> dict[str, float]:
        """Return rows/s of members on a device of the kind, each with its part of what they share."""
        expanded: dict[str, float] = {}
        for name, speed in speeds.items():
            ways = self.ways.get((name, runs[name]))
            if ways is None:
                expanded[name] = speed
                continue
            for member, choice in ways.items():
                found = measured(self.whole, kind, member, choice)
                assert found is not None, "a bundle runs as all of its members were measured"
                expanded[member] = found[1].among(len(ways))
        return expanded

    def shares(self, shares: Mapping[str, float]) -> dict[str, float]:
        """Return rows/s that members are to score: each of a bundle as many as it."""
        return {member: share for name, share in shares.items() for member in self.members.get(name, (name,))}

    def charged(self) -> Problem:
        """Return the problem with each member no dearer than it is anywhere."""
        counts = {member: len(members) for members in self.members.values() for member in members}
        profiles = {
            key: profile.at_speeds({b: p.among(counts.get(key[1], 1)) for b, p in profile.batches.items()})
            for key, profile in self.whole.profiles.items()
        }
        return replace(self.whole, profiles=profiles)


def bundle(problem: Problem) -> Bundles | None:
    """Bundle the members of a problem that share something; None where none do."""
    groups: dict[str, list[str]] = {}
    for member in problem.members:
        if key := problem.together.get(member):
            groups.setdefault(key, []).append(member)
    members: dict[str, tuple[str, ...]] = {}
    ways: dict[tuple[str, Choice], Mapping[str, Choice]] = {}
    profiles = dict(problem.profiles)
    for group in groups.values():
        if len(group) < 2 or not _worth(problem, group):
            continue
        own = _ways(problem, group)
        made = _profiles(problem, group, own)
        if made:
            members[group[0]] = tuple(group)
            ways |= {(group[0], choice): way for choice, way in own.items()}
            profiles = {key: profile for key, profile in profiles.items() if key[1] not in group} | made
    if not members:
        return None
    inner = {member for group in members.values() for member in group[1:]}
    names = tuple(member for member in problem.members if member not in inner)
    parts = {member: part for member, part in problem.parts.items() if member not in inner}
    return Bundles(replace(problem, members=names, profiles=profiles, parts=parts, together={}), members, ways, problem)


def _worth(problem: Problem, group: list[str]) -> bool:
    return any(
        batch.shared >= _WORTH
        for (_, member, _), profile in problem.profiles.items()
        if member in group
        for batch in profile.batches.values()
    )


def _ways(problem: Problem, group: list[str]) -> dict[Choice, dict[str, Choice]]:
    """Return how a bundle may run: in one batch size, each in its fastest runtime among the others on some kind."""
    ways: dict[Choice, dict[str, Choice]] = {}
    kinds = dict.fromkeys(kind for kind, _, _ in problem.profiles)
    sizes = {size for profile in problem.profiles.values() for size in profile.batches}
    for size in sorted(sizes):
        for kind in kinds:
            way: dict[str, Choice] = {}
            for member in group:
                fitting = {
                    runtime: profile.batches[size].among(len(group))
                    for (where, name, runtime), profile in problem.profiles.items()
                    if (where, name) == (kind, member) and size in profile.batches
                }
                if fitting:
                    way[member] = Choice(size, max(fitting, key=lambda runtime: (fitting[runtime], runtime)))
            if len(way) == len(group):
                runtimes = dict.fromkeys(choice.runtime for choice in way.values())
                label = runtimes if len(runtimes) == 1 else [choice.runtime for choice in way.values()]
                ways[Choice(size, "+".join(label))] = way
    return ways


def _profiles(
    problem: Problem, group: list[str], ways: Mapping[Choice, Mapping[str, Choice]]
) -> dict[tuple[str, str, str], Profile]:
    """Return the profiles of a bundle by kind, its name, and the runtimes of a way."""
    made: dict[tuple[str, str, str], Profile] = {}
    for kind in dict.fromkeys(kind for kind, _, _ in problem.profiles):
        for choice, way in ways.items():
            parts = [measured(problem, kind, member, how) for member, how in way.items()]
            found = [part for part in parts if part is not None]
            if len(found) < len(parts):
                continue
            batches = [batch for _, batch in found]
            alone = [1 / batch.rows_per_second for batch in batches]
            shared = mean(seconds * batch.shared for seconds, batch in zip(alone, batches, strict=True))
            own = sum(seconds * (1 - batch.shared) for seconds, batch in zip(alone, batches, strict=True))
            size = BatchProfile(choice.batch, 1 / (shared + own), max(b.workspace for b in batches), 0.0)
            profile = Profile(
                sum(profile.weights for profile, _ in found),
                max(profile.context for profile, _ in found),
                sum(profile.load_seconds for profile, _ in found),
                found[0][0].output_shape,
            )
            key = kind, group[0], choice.runtime
            kept = made.get(key, profile)
            made[key] = replace(kept, batches={**kept.batches, choice.batch: size})
    return made
