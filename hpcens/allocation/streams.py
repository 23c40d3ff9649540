"""Streams: how many readers and reducers a plan needs, and what it makes where there are not enough of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import ceil

from hpcens.allocation.problem import Problem

# A part by which a rate may exceed what it is held against, for being computed along another way.
_ROUNDING = 1 + 1e-9


@dataclass(frozen=True, slots=True)
class Streams:
    """The ranks that rows and outputs pass through.

    throughput  rows/s that they let through, no more than is asked
    limit       `reading`, `sending` or `writing` where that is less than is asked, else empty
    """

    readers: int
    reducers: int
    throughput: float
    limit: str = ""


def copies(
    shares: Iterable[tuple[int, Mapping[str, float]]], throughput: float, parts: Mapping[str, float] | None = None
) -> float:
    """Return how many devices a row is sent to, on average: Σ over devices of the largest share, over the throughput.

    shares  (number of devices, member → rows/s of each)
    parts   member → the part of the rows that it scores and is sent, by itself; all others are sent the same rows
    """
    parts = parts or {}
    sent = 0.0
    for devices, rates in shares:
        together = max((rate for member, rate in rates.items() if member not in parts), default=0.0)
        sent += devices * (together + sum(rate * parts[member] for member, rate in rates.items() if member in parts))
    return sent / throughput


def stream(problem: Problem, wanted: float, sent: float) -> Streams:
    """Choose as few readers and reducers as pass `wanted` rows/s, each row sent to `sent` devices.

    Raises nothing: where all there may be are too few, they pass what they can.
    """
    sending = problem.sending / max(1.0, sent)
    readers = min(problem.readers, max(_read(problem, wanted), _enough(wanted, sending)))
    reducers = min(problem.reducers, _enough(wanted, problem.writing))
    rates = {
        "reading": problem.rates.read_by(readers),
        "sending": readers * sending,
        "writing": reducers * problem.writing,
    }
    least = min(rates, key=rates.__getitem__)
    if rates[least] * _ROUNDING >= wanted:
        return Streams(readers, reducers, wanted)
    return Streams(readers, reducers, rates[least], least)


def _read(problem: Problem, wanted: float) -> int:
    """Return as few readers as take so many rows/s from disk; one more than all where they do not."""
    rates = problem.rates
    if rates.reading_together is None or wanted <= problem.reading * _ROUNDING:
        return _enough(wanted, problem.reading)
    more = (rates.reading_together - problem.reading) / (rates.readers_together - 1)
    return 1 + (_enough(wanted - problem.reading, more) if more > 0 else problem.readers)


def _enough(wanted: float, each: float) -> int:
    return max(1, ceil(wanted / (each * _ROUNDING)))
