"""Climbing: improve a placement that memory keeps from the bound, one instance or choice at a time.

The prices of the linear program over the placement say which changes can help at all: those by
which rows come to be made for less than they are worth. The most promising is solved first.
"""

from __future__ import annotations

from collections.abc import Iterator

from hpcens.devices import Device
from hpcens.planners.model import Division, Placement, choices, device_memory, divide, fits, rehost, speed
from hpcens.planners.problem import Problem

# Linear programs solved at most: a few milliseconds each.
_BUDGET = 200
# Relative gain below which a change is not made.
_GAIN = 1e-6


def climb(problem: Problem, start: Placement, enough: float) -> Placement:
    """A placement at least as fast, which fits if the first does; no further once it makes `enough` rows/s."""
    here, division = start, divide(problem, start)
    budget = _BUDGET
    while division.sharing.throughput < enough:
        changes = sorted(_changes(problem, here, division), key=lambda change: -change[0])[:budget]
        for _, other in changes:
            budget -= 1
            trial = divide(problem, other)
            if trial.sharing.throughput > division.sharing.throughput * (1 + _GAIN):
                here, division = other, trial
                break
        else:
            break
    return here


def _changes(problem: Problem, here: Placement, division: Division) -> Iterator[tuple[float, Placement]]:
    """Placements that fit and may be faster, and what a device's time is worth in them above its rent."""
    worth = division.sharing.worth
    rents = dict.fromkeys((device.name for device in problem.devices), 0.0)
    for devices, rent in zip(division.devices, division.sharing.rents, strict=True):
        rents.update((device.name, rent) for device in devices)
    least = _GAIN * division.sharing.throughput
    for member in problem.members:
        hosts = [device for device in problem.devices if member in here.hosted.get(device.name, ())]
        for choice in choices(problem, member):
            surplus = max(worth[member] * speed(problem, d.kind, member, choice) - rents[d.name] for d in hosts)
            other = here.running(member, choice)
            if surplus > least and choice != here.runs[member] and fits(problem, other):
                yield surplus * len(hosts), other
        tried = set()
        for device in problem.devices:
            alike = device.kind, here.hosted.get(device.name, ())
            surplus = worth[member] * speed(problem, device.kind, member, here.runs[member]) - rents[device.name]
            if device not in hosts and alike not in tried and surplus > least:
                yield from ((surplus, other) for other in _with(problem, here, device, member, hosts))
            tried.add(alike)


def _with(problem: Problem, here: Placement, device: Device, member: str, hosts: list[Device]) -> Iterator[Placement]:
    """The member on one more device: beside its members, or instead of one that other devices host too,
    or in exchange for one that goes where the member was."""
    hosted = here.hosted.get(device.name, ())
    if _holds(problem, here, device, (*hosted, member)):
        yield rehost(problem, here, device.name, (*hosted, member))
        return
    for old in hosted:
        rest = (*(m for m in hosted if m != old), member)
        if not _holds(problem, here, device, rest):
            continue
        instead = rehost(problem, here, device.name, rest)
        if sum(old in members for members in here.hosted.values()) > 1:
            yield instead
        for host in hosts:
            there = here.hosted[host.name]
            after = (*(m for m in there if m != member), old)
            if old not in there and _holds(problem, here, host, after):
                yield rehost(problem, instead, host.name, after)


def _holds(problem: Problem, here: Placement, device: Device, members: tuple[str, ...]) -> bool:
    return device_memory(problem, device.kind, members, here.runs) <= device.memory
