"""Gather the I/O rates that a plan is made with: from the ranks of a start, or without any from what is kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import inf

from hpcens.dataset.inspection import inspect_speed, reading_speed
from hpcens.profiling.book import ProfileBook
from hpcens.profiling.io_survey import IoSurvey
from hpcens.result.disk import sync_seconds, writing_speed
from hpcens.roles.rank_roles import RankRoles
from hpcens.specs import Job
from hpcens.vocabulary import Device, IoRates, Link, LinkKey


def surveyed_rates(job: Job, survey: IoSurvey, result_bytes: int) -> IoRates:
    """Return what the ranks have surveyed, with what this rank measures by itself.

    result_bytes  that the run will write: where they are few, writing is not measured
    """
    alone = reading_speed(job.datasets, job.spec.dataset, job.limit)
    together = survey.reading_together
    rates = IoRates(
        reading=alone,
        reading_together=None if together is None else max(alone, together),
        readers_together=survey.readers,
        disk=_writing(job, result_bytes),
        sync_seconds=sync_seconds(job.output.parent),
    )
    return with_link(rates, survey.link)


def local_rates(job: Job, result_bytes: int) -> IoRates:
    """Return what can be measured without ranks: reading, by a process of its own, and writing.

    Raises DataError where the dataset cannot be read.
    """
    reading = inspect_speed(job.datasets, job.spec.dataset, job.limit)
    return IoRates(reading=reading, disk=_writing(job, result_bytes))


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
    known = [link for link in links if link]
    return min(known, key=lambda link: link.bytes_per_second) if known and len(known) == len(links) else None


def _writing(job: Job, result_bytes: int) -> float | None:
    """Measure the bytes/s at which one rank writes beside the result; None where that is not worth it."""
    speed = writing_speed(job.output.parent, result_bytes)
    return None if speed == inf else speed
