"""Worst-fit decreasing, as in Pochelu et al. (arXiv 2208.14049): a first placement, by memory alone."""

from __future__ import annotations

from collections.abc import Sequence

from hpcens.allocation.model import Choice, Placement, choices, device_memory, rehost, speed
from hpcens.allocation.problem import Problem
from hpcens.errors import UsageError
from hpcens.vocabulary import Device


def place_worst_fit(problem: Problem) -> Placement:
    """Place members by decreasing memory, each at its smallest batch to the device with most memory left.

    GPUs come before CPU devices. Raises UsageError where a member finds no room; another placement
    of the same members may still exist.
    """
    gpus = [device for device in problem.devices if device.family == "cuda"]
    cpus = [device for device in problem.devices if device.family != "cuda"]
    placement = Placement({}, {})
    for member in sorted(problem.members, key=lambda m: -_size(problem, m)):
        wider = _added(problem, placement, gpus, member) or _added(problem, placement, cpus, member)
        if wider is None:
            raise _no_room(problem, placement, member)
        placement = wider
    return placement


def _thriftiest(problem: Problem, kind: str, member: str) -> Choice | None:
    """Return the smallest batch measured on the kind, in the runtime that needs least memory for it."""
    usable = [c for c in choices(problem, member) if speed(problem, kind, member, c) > 0]
    needs = ((c.batch, device_memory(problem, kind, (member,), {member: c}), c) for c in usable)
    return min(needs)[2] if usable else None


def _size(problem: Problem, member: str) -> float:
    kinds = dict.fromkeys(device.kind for device in problem.devices)
    choices_by_kind = ((kind, _thriftiest(problem, kind, member)) for kind in kinds)
    return max(device_memory(problem, kind, (member,), {member: choice}) for kind, choice in choices_by_kind if choice)


def _left(problem: Problem, placement: Placement, device: Device, adding: dict[str, Choice] | None = None) -> float:
    """Return the bytes left on the device, were these members added."""
    runs = {**placement.runs, **(adding or {})}
    members = (*placement.hosted.get(device.name, ()), *(adding or ()))
    return device.memory - device_memory(problem, device.kind, members, runs)


def _added(problem: Problem, placement: Placement, devices: Sequence[Device], member: str) -> Placement | None:
    """Add the member to the device, of these, that has most memory left; None where none has enough."""
    room = [
        (_left(problem, placement, device), device, choice)
        for device in devices
        if (choice := _thriftiest(problem, device.kind, member))
        and _left(problem, placement, device, {member: choice}) >= 0
    ]
    if not room:
        return None
    _, device, choice = max(room, key=lambda entry: entry[0])
    members = (*placement.hosted.get(device.name, ()), member)
    return rehost(problem, placement.running(member, choice), device.name, members)


def _no_room(problem: Problem, placement: Placement, member: str) -> UsageError:
    short, batch, device = min(
        (-_left(problem, placement, device, {member: choice}), choice.batch, device.name)
        for device in problem.devices
        if (choice := _thriftiest(problem, device.kind, member))
    )
    return UsageError(
        f"the members do not fit the devices together: member {member} in batches of {batch} needs {short:.0f} bytes"
        f" more than the others leave on {device}",
        "use more devices, devices with more memory, or smaller batch sizes under plan: batch_sizes",
    )
