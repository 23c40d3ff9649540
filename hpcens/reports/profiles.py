"""Write what is kept of earlier measurements as text for a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median

from hpcens.profiling import ProfileBook
from hpcens.reports.text import amount
from hpcens.vocabulary import Profile, ProfileKey


def profile_lines(book: ProfileBook) -> Iterator[str]:
    """Show all profiles of a book, its links, and what runs reached on each kind of device, a line each."""
    for key, profile in book.all():
        yield _profile_line(key, profile)
    for where, link in book.links():
        to = f"{'another node' if where.apart else 'the same node'}, {where.kind}"
        yield f"link to {to}: {link.bytes_per_second / 1e9:.3g} GB/s, {1e6 * link.message_seconds:.0f} µs a message"
    for kind in book.kinds():
        parts = book.reached(kind)
        runs = f"the last {len(parts)} runs reached {min(parts):.2f}–{max(parts):.2f}"
        yield f"{kind}: plans count on {median(parts):.2f} of these rows/s, since {runs}, members beside each other"


def _profile_line(key: ProfileKey, profile: Profile) -> str:
    batches = ", ".join(
        f"{batch} → {measured.rows_per_second:,.4g}/s ± {50 * measured.spread:.0f} %"
        for batch, measured in sorted(profile.batches.items())
    )
    head = f"{key.kind}  member {key.member[:12]}  {key.runtime}  torch {key.torch}  {amount(profile.weights)}"
    apart = f", within {profile.difference:.1g} of eager" if key.runtime != "eager" and batches else ""
    return f"{head}: {batches or profile.refused or 'differs from eager'}{apart}"
