"""The devices that a user asks for, of a host or of a cluster to plan for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from hpcens.specs.steps import STRICT


@dataclass(frozen=True, slots=True, kw_only=True)
class CpuSpec:
    """CPU devices per host: how many, cores of each, and memory in bytes of each."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT
    count: int
    cores: int = 1
    memory: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CudaSpec:
    """GPUs per host: how many (None: all that are visible), and the bytes of each to use."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT
    count: int | None = None
    memory: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DevicesSpec:
    """The devices of a host; with neither kind given, all GPUs, else one device per core."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT
    cpu: CpuSpec | None = None
    cuda: CudaSpec | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NodesSpec:
    """Nodes of one kind in the cluster, to plan for.

    nodes    how many there are
    kind     kind of their devices, as profiles name it
    devices  how many each has
    memory   bytes of each device
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT
    nodes: int
    kind: str
    devices: int
    memory: int
