"""Write what is kept of earlier measurements as text for a terminal."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Sequence
from itertools import groupby
from statistics import median
from textwrap import wrap
from typing import Any

from hpcens.profiling import ProfileBook
from hpcens.reports.text import amount, figures, rate, span
from hpcens.shell import listed
from hpcens.vocabulary import BatchProfile, Profile, ProfileKey
from hpcens.vocabulary.groups import first_of

_LEGEND = (
    "(below a member and its digest, for each runtime: when it was measured; rows/s in the batches, of so many rows,",
    " in which it was fastest, ± half of what lies between the slowest and the fastest pass; what was tried)",
)
_INDENT: dict[str, Any] = {"width": 100, "initial_indent": "    ", "subsequent_indent": "      "}
_LOADED = "(*: the machine did other work meanwhile; it is measured again, twice at most, where the machine is idle)"


def profile_lines(book: ProfileBook, members: Collection[str] | None = None) -> Iterator[str]:
    """Show the profiles of a book, its links, and what starts of runs reached on each kind of device.

    members  names of those that are shown; None: all
    """
    every = list(book.all())
    names = _names(every)
    every.sort(key=lambda pair: (pair[0].kind, pair[0].torch, names[pair[0].member], pair[0].member))
    profiles = [pair for pair in every if members is None or first_of(names[pair[0].member]) in members]
    for (kind, torch), of_kind in groupby(profiles, lambda pair: (pair[0].kind, pair[0].torch)):
        yield f"{kind}, torch {torch}:"
        for member, alike in groupby(of_kind, lambda pair: pair[0].member):
            yield from _member_lines(names[member], list(alike))
    yield from _LEGEND if profiles else ()
    if any(profile.loaded for _, profile in profiles):
        yield _LOADED
    if others := sorted({*names.values()} - {names[key.member] for key, _ in profiles}):
        yield f"not shown: {listed(others)}; to see all that is kept: hpcens profile --list --all"
    for where, link in book.links():
        to = f"{'another node' if where.apart else 'the same node'}, {where.kind}"
        yield f"link to {to}: {link.bytes_per_second / 1e9:.3g} GB/s, {1e6 * link.message_seconds:.0f} µs a message"
    for kind in book.kinds():
        parts = book.reached(kind)
        span_of = span(parts, lambda part: f"{part:.2f}")
        last = f"the last {len(parts)} starts" if len(parts) > 1 else "the last start"
        yield f"{kind}: plans count on {median(parts):.2f} of these rows/s, since {last} reached {span_of},"
        yield "  members beside each other"


def _names(profiles: Sequence[tuple[ProfileKey, Profile]]) -> dict[str, str]:
    """Return digest of a member → how it was called when it was measured last."""
    names = {key.member: "member" for key, _ in profiles}
    for key, profile in sorted(profiles, key=lambda pair: pair[1].measured):
        if profile.name:
            names[key.member] = profile.name
    return names


def _member_lines(name: str, profiles: Sequence[tuple[ProfileKey, Profile]]) -> Iterator[str]:
    """Show the profiles of one member on one kind of device."""
    key, first = profiles[0]
    yield f"  {name} ({key.member[:8]}), {amount(first.weights)} of memory"
    waiting = []
    for own, profile in profiles:
        if profile.worth_from is not None and not profile.batches:
            waiting.append(f"{own.runtime} {figures(profile.worth_from)}")
        else:
            yield f"    {_profile_phrase(own, profile)}"
    if waiting:
        yield from wrap(f"not tried yet, since it pays only from so many rows on: {', '.join(waiting)}", **_INDENT)


def _profile_phrase(key: ProfileKey, profile: Profile) -> str:
    when = time.strftime("%d %b %Y %H:%M", time.localtime(profile.measured)) if profile.measured else "date not known"
    mark = " *" if profile.loaded else ""
    return f"{key.runtime}  {when}{mark}  {_speed_phrase(key, profile)}"


def _speed_phrase(key: ProfileKey, profile: Profile) -> str:
    """Write the best rows/s, in which batches they were reached, of which; and how far from eager the outputs are."""
    if not profile.batches:
        return profile.refused or "differs from eager"
    best = max(profile.batches.values(), key=lambda batch: batch.rows_per_second)
    tried = f" (tried: {', '.join(map(str, sorted(profile.batches)))})" if len(profile.batches) > 1 else ""
    apart = f", within {profile.difference:.1g} of eager" if key.runtime != "eager" else ""
    return f"{rate(best.rows_per_second)}{_doubt(best)} in batches of {best.batch}{tried}{apart}"


def _doubt(batch: BatchProfile) -> str:
    """Write what the rows/s may be off by; of one pass that is not known."""
    if batch.passes == 1:
        return " (one pass)"
    if not batch.passes and not batch.spread:  # earlier versions did not count the passes
        return ""
    half = 50 * batch.spread
    return f" ± {half:.0f} %" if half >= 1 else " ± under 1 %"
