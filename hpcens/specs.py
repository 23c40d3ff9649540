"""What a user asks for: the content of a run.yaml as frozen data, paths made absolute.

Only shapes and defaults live here; reading and checking a YAML file is `config`'s business.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

Space = Literal["logits", "probabilities", "values"]
RuleName = Literal["mean", "weighted", "vote"]
PlannerName = Literal["optimal", "greedy", "worst-fit"]
OutputName = Literal["prediction", "label", "members"]

COMBINABLE: dict[str, tuple[Space, ...]] = {
    "values": ("values",),
    "logits": ("logits",),
    "probabilities": ("logits", "probabilities"),
}
"""A space in which a rule combines → the outputs of members that can be brought there."""

_STRICT = {"extra": "forbid"}


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberSpec:
    """One network of the ensemble.

    name       identifies the member in the plan, the result and every message
    factory    import path `package.module:callable` that builds the torch module
    arguments  keyword arguments of the factory
    weights    safetensors file with the module's state dict
    output     space of the module's output: logits, probabilities or values
    weight     the member's weight under the rule `weighted`
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = _STRICT
    name: str
    factory: str
    weights: Path
    arguments: dict[str, Any] = field(default_factory=dict)
    output: Space = "logits"
    weight: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetSpec:
    """Which HDF5 dataset of the file holds the rows; None where the file has only one."""

    __pydantic_config__: ClassVar[dict[str, Any]] = _STRICT
    input: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleSpec:
    """How the members' outputs are combined, and in which space.

    name   mean, weighted or vote
    space  probabilities (default for members that classify), logits or values
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = _STRICT
    name: RuleName = "mean"
    space: Space | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CpuSpec:
    """CPU devices per host: how many, cores of each, and memory in bytes of each."""

    __pydantic_config__: ClassVar[dict[str, Any]] = _STRICT
    count: int
    cores: int = 1
    memory: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CudaSpec:
    """GPUs per host: how many (None: all that are visible), and the bytes of each to use."""

    __pydantic_config__: ClassVar[dict[str, Any]] = _STRICT
    count: int | None = None
    memory: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DevicesSpec:
    """The devices of a host; with neither kind given, all GPUs, else one device per core."""

    __pydantic_config__: ClassVar[dict[str, Any]] = _STRICT
    cpu: CpuSpec | None = None
    cuda: CudaSpec | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanSpec:
    """Which planner computes the allocation matrix, and the batch sizes it may choose from."""

    __pydantic_config__: ClassVar[dict[str, Any]] = _STRICT
    planner: PlannerName = "optimal"
    batch_sizes: tuple[int, ...] = (8, 16, 32, 64, 128)


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputSpec:
    """Where the result goes (None: named after the dataset) and what it holds."""

    __pydantic_config__: ClassVar[dict[str, Any]] = _STRICT
    path: Path | None = None
    datasets: tuple[OutputName, ...] = ("prediction", "label")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSpec:
    """Everything a run needs to know but the dataset's path: one run.yaml, resolved.

    members        the ensemble, in the order in which outputs are stacked
    classes        class names, in the order of the members' last axis
    search_path    directory from which factories are imported (that of the YAML file)
    fsync_seconds  at most this long lies between a segment's write and its being durable
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = _STRICT
    members: tuple[MemberSpec, ...]
    dataset: DatasetSpec = field(default_factory=DatasetSpec)
    classes: tuple[str, ...] | None = None
    rule: RuleSpec = field(default_factory=RuleSpec)
    devices: DevicesSpec = field(default_factory=DevicesSpec)
    plan: PlanSpec = field(default_factory=PlanSpec)
    output: OutputSpec = field(default_factory=OutputSpec)
    fsync_seconds: float = 2.0
    search_path: Path = Path()

    @property
    def member_names(self) -> tuple[str, ...]:
        return tuple(member.name for member in self.members)


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One dataset to score under one RunSpec: what a run directory was made for.

    dataset  the HDF5 file
    output   the finished result
    limit    score only this many first rows (None: all)
    plan     a stored plan whose numerics (and matrix, on the same devices) are used
    """

    dataset: Path
    output: Path
    spec: RunSpec
    limit: int | None = None
    plan: Path | None = None
