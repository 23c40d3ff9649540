"""The upper bound: rows/s that no placement on these devices can beat, and what sets it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import inf

from hpcens.allocation.model import Choice, choices, device_memory, speed
from hpcens.allocation.problem import Problem
from hpcens.allocation.sharing import Group, Sharing, share
from hpcens.errors import UsageError
from hpcens.vocabulary import Device

# Free memory of equal devices differs by a little; devices closer than this are planned alike.
_ALIKE = 0.99


@dataclass(frozen=True, slots=True)
class Pool:
    """Devices of one kind and nearly equal memory, largest first."""

    kind: str
    devices: tuple[Device, ...]

    @property
    def most(self) -> int:
        """Bytes of the largest."""
        return self.devices[0].memory

    @property
    def least(self) -> int:
        """Bytes of the smallest."""
        return self.devices[-1].memory


@dataclass(frozen=True, slots=True)
class Bound:
    """What no placement exceeds.

    rows_per_second  of the whole ensemble
    limit            what sets it where it is neither readers nor reducers, as a phrase
    sharing          the linear program over pools behind it, readers and reducers left out
    """

    rows_per_second: float
    limit: str
    sharing: Sharing


def pools(problem: Problem) -> tuple[Pool, ...]:
    """Group the devices by kind, a kind split where its memory falls below 0.99 of the largest."""
    alike: list[list[Device]] = []
    order = {kind: i for i, kind in enumerate(dict.fromkeys(device.kind for device in problem.devices))}
    for device in sorted(problem.devices, key=lambda d: (order[d.kind], -d.memory)):
        if alike and alike[-1][0].kind == device.kind and device.memory >= _ALIKE * alike[-1][0].memory:
            alike[-1].append(device)
        else:
            alike.append([device])
    return tuple(Pool(devices[0].kind, tuple(devices)) for devices in alike)


def fits_alone(problem: Problem, pool: Pool, member: str, choice: Choice) -> bool:
    """Tell whether the largest device of the pool has room for the member, if it hosts nothing else."""
    return device_memory(problem, pool.kind, (member,), {member: choice}) <= pool.most


def upper_bound(problem: Problem) -> Bound:
    """Solve the linear program over pools with every member at its best; no more than readers and reducers pass.

    Placement, and one batch size per member over all kinds, are left out: both only cost. So are
    members that share a device's memory: the bound is valid there, and loose. (Patterns of members
    with fractional counts would not tighten it: those of a single member already reach it.)
    Raises UsageError where a member fits no device even alone.
    """
    all_pools = pools(problem)
    groups = []
    for pool in all_pools:
        best: dict[str, float] = {}
        for member in problem.members:
            for choice in choices(problem, member):
                if fits_alone(problem, pool, member, choice):
                    best[member] = max(best.get(member, 0.0), speed(problem, pool.kind, member, choice))
        groups.append(Group(len(pool.devices), best))
    for member in problem.members:
        if not any(member in group.speeds for group in groups):
            raise _fits_nowhere(problem, member)
    sharing = share(problem.members, groups)
    return Bound(min(problem.passing, sharing.bound), _slowest(problem, all_pools, sharing), sharing)


def beside_readers(problem: Problem) -> Problem:
    """Return the problem with a bound on rows/s of rows that one host reads and scores: these alone are not sent.

    Such rows of a host are no more than its own devices make; readers are on as many hosts as there are of them at
    most. Every other row passes the link of the reader that has read it, once or more.
    """
    if not problem.shared or not all(problem.hosts):
        return replace(problem, beside=0.0)
    if len(problem.hosts) == 1:
        return replace(problem, beside=inf)
    made: dict[tuple[tuple[str, int], ...], float] = {}
    each: list[float] = []
    for host in problem.hosts:
        devices = tuple(device for device in problem.devices if device.host == host)
        alike = tuple(sorted((device.kind, device.memory) for device in devices))
        if alike not in made:
            try:
                made[alike] = upper_bound(replace(problem, devices=devices)).sharing.bound
            except UsageError:  # a member fits none of its devices
                made[alike] = 0.0
        each.append(made[alike])
    return replace(problem, beside=sum(sorted(each)[-problem.readers :]))


def memory_limit(device: Device) -> str:
    """Return the phrase for a device whose memory limits the plan."""
    return f"memory of the {device.memory / 1e9:.3g} GB {device.kind} devices"


def _slowest(problem: Problem, all_pools: tuple[Pool, ...], sharing: Sharing) -> str:
    member = max(problem.members, key=lambda m: sharing.worth[m])
    spent = [times.get(member, 0.0) * rent for times, rent in zip(sharing.times, sharing.rents, strict=True)]
    return f"member {member} on {all_pools[spent.index(max(spent))].kind} devices"


def _fits_nowhere(problem: Problem, member: str) -> UsageError:
    remedy = "use a device with more memory, or smaller batch sizes under plan: batch_sizes"
    for device in sorted(problem.devices, key=lambda d: -d.memory):
        measured = (c for c in choices(problem, member) if speed(problem, device.kind, member, c) > 0)
        needs = [
            (device_memory(problem, device.kind, (member,), {member: choice}), choice.batch) for choice in measured
        ]
        if needs:
            needed, batch = min(needs)
            return UsageError(
                f"member {member} fits no device: in batches of {batch} it needs {needed - device.memory:.0f} bytes"
                f" more than the {device.memory} of {device.name}, the largest",
                remedy,
            )
    return UsageError(f"member {member} fits no device: it ran on none of them in any of the batch sizes", remedy)
