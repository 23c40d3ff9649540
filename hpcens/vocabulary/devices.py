"""Devices: what members are placed on. A GPU, or a group of CPU cores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Family = Literal["cpu", "cuda"]


@dataclass(frozen=True, slots=True)
class Device:
    """One device, owned by one rank.

    name    unique in a world, `host/cpu0` or `host/cuda1`
    kind    devices of one kind are interchangeable: same profile, same numerics
    memory  bytes a rank on this device may use
    cores   CPU cores (= compute threads) of a CPU device; 1 for a GPU
    index   number among its host's devices of the same family
    """

    name: str
    family: Family
    kind: str
    memory: int
    cores: int = 1
    index: int = 0


@dataclass(frozen=True, slots=True)
class HostDevices:
    """What one host offers: found by any of its ranks, equal for all of them."""

    host: str
    devices: tuple[Device, ...]


def cpu_devices(host: str, model: str, *, count: int, cores: int, memory: int) -> tuple[Device, ...]:
    """`count` CPU devices of `cores` cores and `memory` bytes each."""
    kind = f"cpu×{cores} {model}"
    return tuple(Device(f"{host}/cpu{i}", "cpu", kind, memory, cores, i) for i in range(count))
