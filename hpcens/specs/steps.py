"""Steps: what a user says of how rows are prepared for a network."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal

ResizeMode = Literal["bilinear", "bicubic", "nearest", "nearest-exact", "area"]
CastName = Literal["float32", "float64", "float16", "bfloat16", "int64", "int32", "uint8"]

STRICT = {"extra": "forbid"}


@dataclass(frozen=True, slots=True, kw_only=True)
class NormalizeSpec:
    """(x − mean) / std, a number per channel (axis 1), or one for all."""

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT
    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ResizeSpec:
    """To what size the last two axes are brought, and how.

    size       height and width, or one number: the shorter side's, and the other keeps its proportion, rounded down
    mode       as torch.nn.functional.interpolate names them; corners are not aligned
    antialias  smooth before pixels are left out, as Pillow does; for bilinear and bicubic
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT
    size: tuple[int, ...]
    mode: ResizeMode = "bilinear"
    antialias: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class StepSpec:
    """One step of a member's preprocessing: one of the kinds below, on one input (by default the first).

    cast       dtype
    scale      factor
    normalize  mean and std per channel
    resize     size of the last two axes
    crop       height and width cut from the middle of the last two axes
    layout     permutation of axes by letters, such as NHWC->NCHW
    call       import path of a function. On an input, it takes a tensor and returns one; else it takes all inputs as
               positional tensors, and returns a tensor or a tuple of them, which are the inputs from there on.
               Tensors are (batch, …), on the device; the batch must keep its rows, in whatever batches they come.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT
    input: str | None = None
    cast: CastName | None = None
    scale: float | None = None
    normalize: NormalizeSpec | None = None
    resize: ResizeSpec | None = None
    crop: tuple[int, ...] | None = None
    layout: str | None = None
    call: str | None = None

    @property
    def kind(self) -> str:
        """Which of the kinds it is."""
        return next(kind for kind in STEPS if getattr(self, kind) is not None)


STEPS = tuple(kind.name for kind in fields(StepSpec) if kind.name != "input")
"""The kinds of step: a key of StepSpec each."""
