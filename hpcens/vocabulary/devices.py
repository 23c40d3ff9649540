"""Devices: what members are placed on. A GPU, or a group of CPU cores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from hpcens.files import checked

Family = Literal["cpu", "cuda"]


@dataclass(frozen=True, slots=True)
class Device:
    """One device, owned by one rank.

    name    unique among all ranks of a run: `host/cpu0` or `host/cuda1`
    kind    devices of one kind are interchangeable: same profile, same numerics
    memory  bytes that a rank on this device may use
    cores   CPU cores (= compute threads) of a CPU device; 1 for a GPU
    index   number among its host's devices of the same family
    host    node that the device belongs to; empty where it stands for those of any node of its kind
    """

    name: str
    family: Family
    kind: str
    memory: int
    cores: int = 1
    index: int = 0
    host: str = ""

    def on(self, host: str) -> Device:
        """Return the same device of another node, named after that node."""
        return replace(self, name=f"{host}/{self.name.removeprefix(f'{self.host}/')}", host=host)


def cpu_devices(host: str, model: str, *, count: int, cores: int, memory: int) -> tuple[Device, ...]:
    """Return `count` CPU devices of a node, each of `cores` cores and `memory` bytes.

    model  name of the node's processor
    """
    kind = f"cpu×{cores} {model}"
    return tuple(Device(f"{host}/cpu{i}", "cpu", kind, memory, cores, i, host) for i in range(count))


def device_from_dict(fields: Mapping[str, Any]) -> Device:
    """Read a stored device. Older plans have its host as the prefix of its name alone."""
    return checked(Device(**{"host": fields["name"].rpartition("/")[0], **fields}))
