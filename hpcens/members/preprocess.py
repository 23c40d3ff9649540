"""Preprocessing: a member's inputs, from rows as they are stored to what its module takes; on the device."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from hpcens.errors import MemberError
from hpcens.members.casting import Cast
from hpcens.specs import MemberSpec, NormalizeSpec, ResizeSpec, StepSpec
from hpcens.usercode import import_member_code

Inputs = tuple[torch.Tensor, ...]


class PreprocessingFailed(Exception):
    """A step of a member's preprocessing raised on the rows it was called with.

    step   the step, as errors name it
    error  what it raised; a SystemExit where it called exit()
    """

    def __init__(self, step: str, error: BaseException) -> None:
        super().__init__(step, error)
        self.step = step
        self.error = error

    def __str__(self) -> str:
        return str(self.error)


def cause_of(error: BaseException) -> BaseException:
    """Return what went wrong: where a preprocessing failed, what its step raised; else the error itself."""
    return error.error if isinstance(error, PreprocessingFailed) else error


class Preprocessing(torch.nn.Module):
    """All steps of a member, in order.

    Every input is copied first, into the dtype its first step casts to, else float32, or float64 under that precision:
    rows are shared with other members, and a module may change its input.
    """

    def __init__(self, spec: MemberSpec, names: Sequence[str], search_path: Path) -> None:
        """Make the steps of a member. Raises MemberError where a function cannot be imported.

        names  names of the inputs that the member takes, in its order
        """
        super().__init__()
        self._member = spec.name
        self.casts = tuple(_first_cast(spec, name, i == 0) for i, name in enumerate(names))
        self._steps: list[_Step] = []
        for i, step in enumerate(spec.preprocess):
            label = f"preprocess[{i}] ({step.kind}{f' {step.call}' if step.call else ''})"
            place = names.index(step.input) if step.input else 0 if step.call is None else None
            function = _function(step, f"member {spec.name}: {label}", search_path, getattr(torch, spec.output_dtype))
            self._steps.append(_Step(label, place, function))
        # known to torch, so that they move to the device with it
        self._placed = torch.nn.ModuleList(s.function for s in self._steps if isinstance(s.function, _Normalize))

    def forward(self, *rows: torch.Tensor) -> Inputs:
        """Return what the module takes, from (batch, *row shape) of each input as it is stored.

        Raises MemberError where a step does not fit the rows, or changes how many there are; PreprocessingFailed
        where a function raises.
        """
        inputs = tuple(x.to(cast.dtype, copy=True) for x, cast in zip(rows, self.casts, strict=True))
        for step in self._steps:
            try:
                inputs = self._applied(step, inputs)
            except MemberError:
                raise
            except (Exception, SystemExit) as error:
                raise PreprocessingFailed(step.label, error) from error
            self._check_rows(step, inputs, len(rows[0]))
        return inputs

    def _applied(self, step: _Step, inputs: Inputs) -> Inputs:
        if step.place is None:
            return self._tensors(step, step.function(*inputs))
        if step.place >= len(inputs):
            raise self._wrong(step, f"its input is gone: an earlier step left {len(inputs)}")
        x = inputs[step.place]
        try:
            values = step.function(x)
        except _Misfit as error:
            raise self._wrong(step, f"{error} (input {tuple(x.shape)})") from None
        return (*inputs[: step.place], *self._tensors(step, values), *inputs[step.place + 1 :])

    def _tensors(self, step: _Step, returned: object) -> Inputs:
        values = tuple(returned) if isinstance(returned, tuple | list) else (returned,)
        strange = [type(x).__name__ for x in values if not isinstance(x, torch.Tensor)]
        if strange or not values:
            what = strange[0] if strange else "nothing"
            raise self._wrong(step, f"it returned {what}, not a tensor or a tuple of them")
        return values

    def _check_rows(self, step: _Step, inputs: Inputs, rows: int) -> None:
        for x in inputs:
            if x.shape[:1] != (rows,):
                raise self._wrong(step, f"it made {tuple(x.shape)} of {rows} rows; a step keeps the rows it is given")

    def _wrong(self, step: _Step, what: str) -> MemberError:
        return MemberError(f"member {self._member}: {step.label}: {what}", "correct members[].preprocess in the YAML")


@dataclass(frozen=True, slots=True)
class _Step:
    """One step: how errors name it, what it is applied to, and the function.

    place  number of the input that it is applied to; None: all at once
    """

    label: str
    place: int | None
    function: Callable[..., object]


def _first_cast(spec: MemberSpec, name: str, first: bool) -> Cast:
    """Return what an input is taken in: what the first step on it casts to, else float32, or float64 under that."""
    step = spec.first_step(name, first=first)
    written = getattr(step, "cast", None)
    dtype = getattr(torch, written or spec.output_dtype)
    return Cast(dtype, written is not None, getattr(torch, spec.dtype) if step is None else dtype)


class _Misfit(Exception):
    """A step that the rows do not fit."""


def _function(step: StepSpec, owner: str, search_path: Path, dtype: torch.dtype) -> Callable[..., object]:
    """Make the function of a step. dtype: of what it makes of integers, where it makes floats."""
    if step.call is not None:
        return import_member_code(owner, step.call, search_path)
    if step.normalize is not None:
        return _Normalize(step.normalize)
    if step.scale is not None:
        return partial(_scale, by=step.scale, dtype=dtype)
    return partial(_STEPS[step.kind], by=getattr(step, step.kind))


class _Normalize(torch.nn.Module):
    """A module, so that its numbers are on the device before the first batch."""

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, by: NormalizeSpec) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(by.mean, dtype=torch.float64), persistent=False)
        self.register_buffer("std", torch.tensor(by.std, dtype=torch.float64), persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Subtract the mean and divide by the deviation, by channel (axis 1) where there are several."""
        _require_floats(x)
        count = self.mean.numel()
        if count > 1 and (x.dim() < 2 or x.shape[1] != count):
            raise _Misfit(f"{count} channels are given, axis 1 has {x.shape[1] if x.dim() > 1 else 0}")
        shape = (1, count, *[1] * (x.dim() - 2)) if count > 1 else ()
        return (x - self.mean.to(x.dtype).reshape(shape)) / self.std.to(x.dtype).reshape(shape)


def _cast(x: torch.Tensor, by: str) -> torch.Tensor:
    return x.to(getattr(torch, by))


def _scale(x: torch.Tensor, by: float, dtype: torch.dtype) -> torch.Tensor:
    return (x if x.is_floating_point() or dtype == torch.float32 else x.to(dtype)) * by


def _resize(x: torch.Tensor, by: ResizeSpec) -> torch.Tensor:
    """Resize the last two axes; corners are not aligned."""
    _require_floats(x)
    if x.dim() not in (3, 4):
        raise _Misfit("resize takes (rows, height, width) or (rows, channels, height, width)")
    images = x if x.dim() == 4 else x.unsqueeze(1)
    size = _target(by.size, *images.shape[-2:])
    smooth = {"align_corners": False, "antialias": by.antialias} if by.mode in ("bilinear", "bicubic") else {}
    resized: torch.Tensor = torch.nn.functional.interpolate(images, size=size, mode=by.mode, **smooth)
    return resized if x.dim() == 4 else resized.squeeze(1)


def _target(size: Sequence[int], height: int, width: int) -> tuple[int, int]:
    """Return height and width after a resize. One number is the shorter side's: the other one is rounded down."""
    if len(size) == 2:
        return size[0], size[1]
    shorter, longer = min(height, width), max(height, width)
    scaled = size[0] * longer // shorter
    return (size[0], scaled) if height <= width else (scaled, size[0])


def _crop(x: torch.Tensor, by: Sequence[int]) -> torch.Tensor:
    """Cut (height, width) from the middle; where it lies between two pixels, the upper left."""
    height, width = x.shape[-2:] if x.dim() > 2 else (0, 0)
    if by[0] > height or by[1] > width:
        raise _Misfit(f"{by[0]} × {by[1]} cannot be cut from {height} × {width}")
    top, left = (height - by[0]) // 2, (width - by[1]) // 2
    return x[..., top : top + by[0], left : left + by[1]]


def _layout(x: torch.Tensor, by: str) -> torch.Tensor:
    """Permute the axes: `NHWC->NCHW` brings the channels forward."""
    stored, wanted = by.split("->")
    if x.dim() != len(stored):
        raise _Misfit(f"{by} is for {len(stored)} axes, rows included")
    return x.permute([stored.index(letter) for letter in wanted]).contiguous()


def _require_floats(x: torch.Tensor) -> None:
    if not x.is_floating_point():
        raise _Misfit(f"it needs floats, and the input is {str(x.dtype).removeprefix('torch.')}; cast it before")


_STEPS: dict[str, Callable[..., torch.Tensor]] = {
    "cast": _cast,
    "resize": _resize,
    "crop": _crop,
    "layout": _layout,
}
