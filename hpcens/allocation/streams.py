"""Streams: how many readers and reducers a plan needs, and what it makes where there are not enough of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil, inf

from hpcens.allocation.problem import Problem
from hpcens.vocabulary import Device

# A part by which a rate may exceed what it is held against, for being computed along another way.
_ROUNDING = 1 + 1e-9


@dataclass(frozen=True, slots=True)
class Streams:
    """The ranks that rows and outputs pass through.

    throughput  rows/s that they let through, no more than is asked
    copied      devices that a row is sent to, on average: those of its reader's host may read it where it lies
    limit       `reading`, `sending` or `writing` where that is less than is asked, else empty
    """

    readers: int
    reducers: int
    throughput: float
    copied: float
    limit: str = ""


def takers(
    shares: Iterable[tuple[Sequence[Device], Mapping[str, float]]],
    throughput: float,
    parts: Mapping[str, float] | None = None,
) -> dict[str, float]:
    """Return how many devices of each host take a row, on average: Σ of their largest shares, over the throughput.

    shares  (devices, member → rows/s of each)
    parts   member → the part of the rows that it scores and is sent, by itself; all others are sent the same rows
    """
    parts = parts or {}
    taken: dict[str, float] = {}
    for devices, rates in shares:
        together = max((rate for member, rate in rates.items() if member not in parts), default=0.0)
        each = together + sum(rate * parts[member] for member, rate in rates.items() if member in parts)
        for device in devices:
            taken[device.host] = taken.get(device.host, 0.0) + each / throughput
    return taken


def _copied(problem: Problem, taken: Mapping[str, float], readers: int) -> float:
    """Return how many devices a row is sent to by so many readers, which have equally many rows each."""
    beside = sum(taken.get(host, 0.0) for host in problem.hosts[:readers] if host) if problem.shared else 0.0
    return max(0.0, sum(taken.values()) - beside / readers)


def _sent(problem: Problem, taken: Mapping[str, float], readers: int) -> float:
    """Return the rows/s that so many readers send."""
    copied = _copied(problem, taken, readers) if problem.shared else max(1.0, _copied(problem, taken, readers))
    return readers * problem.sending / copied if copied > 1e-9 else inf


def stream(problem: Problem, wanted: float, taken: Mapping[str, float]) -> Streams:
    """Choose as few readers and reducers as pass `wanted` rows/s. taken: as `takers` gives it.

    Raises nothing: where all there may be are too few, they pass what they can.
    """
    enough = range(min(problem.readers, _read(problem, wanted)), problem.readers + 1)
    fitting = (readers for readers in enough if _sent(problem, taken, readers) * _ROUNDING >= wanted)
    readers = next(fitting, None) or max(enough, key=lambda readers: _sent(problem, taken, readers))
    reducers = min(problem.reducers, _enough(wanted, problem.writing))
    rates = {
        "reading": problem.rates.read_by(readers),
        "sending": _sent(problem, taken, readers),
        "writing": reducers * problem.writing,
    }
    copied = _copied(problem, taken, readers)
    least = min(rates, key=rates.__getitem__)
    if rates[least] * _ROUNDING >= wanted:
        return Streams(readers, reducers, wanted, copied)
    return Streams(readers, reducers, rates[least], copied, least)


def _read(problem: Problem, wanted: float) -> int:
    """Return as few readers as take so many rows/s from disk; one more than all where they do not."""
    rates = problem.rates
    if rates.reading_together is None or wanted <= problem.reading * _ROUNDING:
        return _enough(wanted, problem.reading)
    more = (rates.reading_together - problem.reading) / (rates.readers_together - 1)
    return 1 + (_enough(wanted - problem.reading, more) if more > 0 else problem.readers)


def _enough(wanted: float, each: float) -> int:
    return max(1, ceil(wanted / (each * _ROUNDING)))
