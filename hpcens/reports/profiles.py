"""Write what is kept of earlier measurements as text for a terminal."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from itertools import groupby
from statistics import median

from hpcens.profiling import ProfileBook
from hpcens.reports.text import amount, figures, span
from hpcens.vocabulary import BatchProfile, Profile, ProfileKey

_LEGEND = (
    "(member and digest, kind of device, runtime, when it was measured, version of torch, memory of the weights:",
    " batch size in rows → rows/s ± half of what lies between the slowest and the fastest pass)",
)
_LOADED = "(*: the machine did other work meanwhile; it is measured again, twice at most, where the machine is idle)"


def profile_lines(book: ProfileBook) -> Iterator[str]:
    """Show all profiles of a book, its links, and what runs reached on each kind of device.

    A line for each runtime of a member that was measured, and one for all that were not tried yet.
    """
    profiles = list(book.all())
    for _, alike in groupby(profiles, lambda pair: (pair[0].kind, pair[0].member)):
        yield from _member_lines(list(alike))
    yield from _LEGEND if profiles else ()
    if any(profile.loaded for _, profile in profiles):
        yield _LOADED
    for where, link in book.links():
        to = f"{'another node' if where.apart else 'the same node'}, {where.kind}"
        yield f"link to {to}: {link.bytes_per_second / 1e9:.3g} GB/s, {1e6 * link.message_seconds:.0f} µs a message"
    for kind in book.kinds():
        parts = book.reached(kind)
        of_them = span(parts, lambda part: f"{part:.2f}")
        runs = f"the last {len(parts)} runs reached {of_them}" if len(parts) > 1 else f"the last run reached {of_them}"
        yield f"{kind}: plans count on {median(parts):.2f} of these rows/s, since {runs}, members beside each other"


def _member_lines(profiles: Sequence[tuple[ProfileKey, Profile]]) -> Iterator[str]:
    """Show the profiles of one member on one kind of device."""
    key = profiles[0][0]
    known = next((profile.name for _, profile in reversed(profiles) if profile.name), "member")
    head = f"{known} ({key.member[:8]})  {key.kind}"
    waiting = []
    for own, profile in profiles:
        if profile.worth_from is not None and not profile.batches:
            waiting.append(f"{own.runtime} from {figures(profile.worth_from)} rows on")
        else:
            yield f"{head}  {_profile_phrase(own, profile)}"
    if waiting:
        yield f"{head}  not tried yet, since preparing it pays only for more rows: {', '.join(waiting)}"


def _profile_phrase(key: ProfileKey, profile: Profile) -> str:
    batches = ", ".join(_batch_phrase(profile.batches[batch]) for batch in sorted(profile.batches))
    when = time.strftime("%d %b %Y %H:%M", time.localtime(profile.measured)) if profile.measured else "date not known"
    apart = f", within {profile.difference:.1g} of eager" if key.runtime != "eager" and batches else ""
    mark = " *" if profile.loaded else ""
    told = batches or profile.refused or "differs from eager"
    return f"{key.runtime}  {when}{mark}  torch {key.torch}  {amount(profile.weights)}: {told}{apart}"


def _batch_phrase(batch: BatchProfile) -> str:
    """Write a batch size and its rows/s, with what they may be off by; of one pass that is not known."""
    speed = f"{batch.batch} → {figures(batch.rows_per_second)}/s"
    if batch.passes == 1:
        return f"{speed} (one pass)"
    if not batch.passes and not batch.spread:  # earlier versions did not count the passes
        return speed
    half = 50 * batch.spread
    return f"{speed} ± {half:.0f} %" if half >= 1 else f"{speed} ± under 1 %"
