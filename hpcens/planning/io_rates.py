"""Complete the I/O rates that a plan is made with: from the ranks of a start, or without any from what is kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from hpcens.profiling import IoSurvey, ProfileBook
from hpcens.roles import RankRoles
from hpcens.vocabulary import Device, IoRates, Link, LinkKey


def with_survey(rates: IoRates, survey: IoSurvey) -> IoRates:
    """Return what one rank has measured of itself, with what several have surveyed together."""
    alone, together = rates.reading, survey.reading_together
    if alone is not None and together is not None:
        rates = replace(rates, reading_together=max(alone, together), readers_together=survey.readers)
    return with_link(rates, survey.link)


def with_link(rates: IoRates, link: Link | None) -> IoRates:
    """Return the rates with those of a link; None where it is not known."""
    if link is None:
        return replace(rates, link=None, message_seconds=None)
    return replace(rates, link=link.bytes_per_second, message_seconds=link.message_seconds)


def keep_link(survey: IoSurvey, rank_roles: RankRoles, book: ProfileBook) -> None:
    """Note the link to the farthest device in the book, for plans that are made without ranks."""
    if survey.link is not None:
        kind = rank_roles.devices[rank_roles.farthest].kind
        book.put_link(LinkKey(kind, apart=rank_roles.apart), survey.link)


def known_link(devices: Sequence[Device], book: ProfileBook) -> Link | None:
    """Return the slowest of the links to these devices that are in the book; None where one is not known."""
    apart = len({device.host for device in devices}) > 1
    links = [book.link(LinkKey(kind, apart)) for kind in dict.fromkeys(device.kind for device in devices)]
    kept = [link for link in links if link]
    return min(kept, key=lambda link: link.bytes_per_second) if kept and len(kept) == len(links) else None
