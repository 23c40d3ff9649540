"""Features: what a user says of a featuriser, whose output several members are called with."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

from hpcens.specs.steps import STRICT, StepSpec

Precision = Literal["float32", "tf32", "bfloat16", "float16", "float64", "auto"]
FeaturesPrecision = Literal["float32", "bfloat16", "float16", "float64"]
Trust = Literal["pickle", "file_access"]


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightsSpec:
    """Where the state dict of a factory's module lies.

    path    safetensors or torch file; None: the factory loads the weights itself
    key     of the state dict in a checkpoint that holds several things, with dots for what lies deeper
    prefix  what the keys of the module's own begin with; others are unexpected
    ignore  patterns of unexpected keys that may be left out
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT
    path: Path | None = None
    key: str | None = None
    prefix: str | None = None
    ignore: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class FeaturesSpec:
    """A featuriser: a module whose output, computed once a batch on a device, several members are called with.

    factory     import path `package.module:callable` that builds the torch module
    arguments   keyword arguments of the factory
    weights     state dict of the module (None: the factory loads them itself, if there are any)
    trust       pickle: what else would be refused may be unpickled, and can run any code
    files       further files that its code opens, whose content is part of what its members are
    inputs      inputs of the dataset the module takes, in its order (None: all)
    preprocess  steps before it, as those of a member
    precision   of the module and its inputs (None: not written, which is float32)
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT
    factory: str
    arguments: dict[str, Any] = field(default_factory=dict)
    weights: WeightsSpec | None = None
    trust: tuple[Trust, ...] | None = None
    files: tuple[Path, ...] = ()
    inputs: tuple[str, ...] | None = None
    preprocess: tuple[StepSpec, ...] = ()
    precision: FeaturesPrecision | None = None
