"""Worst-fit decreasing, as in Pochelu et al. (arXiv 2208.14049): a first placement, by memory alone."""

from __future__ import annotations

from collections.abc import Iterable

from hpcens.devices import Device
from hpcens.errors import UsageError
from hpcens.planners.model import Choice, Placement, choices, device_memory, place, speed
from hpcens.planners.problem import Problem


def worst_fit(problem: Problem) -> Placement:
    """Members by decreasing memory, each at its smallest batch to the device with most memory left.

    GPUs come before CPU devices. Raises UsageError where a member finds no room; another placement
    of the same members may still exist.
    """
    gpus = [device for device in problem.devices if device.family == "cuda"]
    cpus = [device for device in problem.devices if device.family != "cuda"]
    hosted: dict[str, dict[str, Choice]] = {device.name: {} for device in problem.devices}
    for member in sorted(problem.members, key=lambda m: -_size(problem, m)):
        home = _roomiest(problem, hosted, gpus, member) or _roomiest(problem, hosted, cpus, member)
        if home is None:
            raise _no_room(problem, hosted, member)
        device, choice = home
        hosted[device.name][member] = choice
    return place(problem, hosted, {m: choice for of in hosted.values() for m, choice in of.items()})


def _thriftiest(problem: Problem, kind: str, member: str) -> Choice | None:
    """The smallest batch measured on the kind, in the runtime that needs least memory for it."""
    measured = [
        (choice.batch, device_memory(problem, kind, {member: choice}), choice)
        for choice in choices(problem, member)
        if speed(problem, kind, member, choice) > 0
    ]
    return min(measured)[2] if measured else None


def _size(problem: Problem, member: str) -> float:
    kinds = dict.fromkeys(device.kind for device in problem.devices)
    found = ((kind, _thriftiest(problem, kind, member)) for kind in kinds)
    return max((device_memory(problem, kind, {member: choice}) for kind, choice in found if choice), default=0.0)


def _left(problem: Problem, hosted: dict[str, dict[str, Choice]], device: Device, adding: dict[str, Choice]) -> float:
    return device.memory - device_memory(problem, device.kind, hosted[device.name] | adding)


def _roomiest(
    problem: Problem, hosted: dict[str, dict[str, Choice]], devices: Iterable[Device], member: str
) -> tuple[Device, Choice] | None:
    best: tuple[float, Device, Choice] | None = None
    for device in devices:
        choice = _thriftiest(problem, device.kind, member)
        if choice is None or _left(problem, hosted, device, {member: choice}) < 0:
            continue
        left = _left(problem, hosted, device, {})
        if best is None or left > best[0]:
            best = left, device, choice
    return best and best[1:]


def _no_room(problem: Problem, hosted: dict[str, dict[str, Choice]], member: str) -> UsageError:
    tried = [
        (-_left(problem, hosted, device, {member: choice}), choice.batch, device.name)
        for device in problem.devices
        if (choice := _thriftiest(problem, device.kind, member))
    ]
    short, batch, device = min(tried)
    return UsageError(
        f"the members do not fit the devices together: member {member} in batches of {batch} needs {short:.0f} bytes"
        f" more than the others leave on {device}",
        "use more devices, devices with more memory, or smaller batch sizes under plan: batch_sizes",
    )
