"""Preprocessing: a member's inputs, from rows as they are stored to what its module takes; on the device."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from hpcens.errors import MemberError
from hpcens.specs import MemberSpec, NormalizeSpec, StepSpec
from hpcens.usercode import import_member_code

Inputs = tuple[torch.Tensor, ...]


class Preprocessing(torch.nn.Module):
    """All steps of a member, in order.

    stage  what is being done now, for whoever catches an error

    Every input is copied first, into float32 or the dtype its first step casts to: rows are shared with other
    members, and a module may change its input.
    """

    def __init__(self, spec: MemberSpec, names: Sequence[str], search_path: Path) -> None:
        """names: of the inputs it is called with. Raises MemberError where a function cannot be imported."""
        super().__init__()
        self.stage = ""
        self._member = spec.name
        self._dtypes = [getattr(torch, _first_cast(spec, name, i == 0)) for i, name in enumerate(names)]
        self._steps: list[_Step] = []
        for i, step in enumerate(spec.preprocess):
            label = f"preprocess[{i}] ({step.kind}{f' {step.call}' if step.call else ''})"
            place = names.index(step.input) if step.input else 0 if step.call is None else None
            self._steps.append(_Step(label, place, _function(step, f"member {spec.name}: {label}", search_path)))
        # known to torch, so that they move to the device with it
        self._placed = torch.nn.ModuleList(s.function for s in self._steps if isinstance(s.function, _Normalize))

    def forward(self, *rows: torch.Tensor) -> Inputs:
        """(batch, *row shape) of each input as it is stored → what the module takes.

        Raises MemberError where a step does not fit the rows, or changes how many there are; what a function
        raises goes through as it is.
        """
        self.stage = ""
        inputs = tuple(x.to(dtype, copy=True) for x, dtype in zip(rows, self._dtypes, strict=True))
        for step in self._steps:
            self.stage = step.label
            if step.place is None:
                inputs = self._tensors(step.function(*inputs))
            elif step.place < len(inputs):
                made = self._tensors(self._applied(step.function, inputs[step.place]))
                inputs = (*inputs[: step.place], *made, *inputs[step.place + 1 :])
            else:
                raise self._wrong(f"its input is gone: an earlier step left {len(inputs)}")
            self._check_rows(inputs, len(rows[0]))
        self.stage = ""
        return inputs

    def _applied(self, function: Callable[..., object], x: torch.Tensor) -> object:
        try:
            return function(x)
        except _Misfit as error:
            raise self._wrong(f"{error} (input {tuple(x.shape)})") from None

    def _tensors(self, given: object) -> Inputs:
        found = tuple(given) if isinstance(given, tuple | list) else (given,)
        strange = [type(x).__name__ for x in found if not isinstance(x, torch.Tensor)]
        if strange or not found:
            raise self._wrong(f"it returned {strange[0] if strange else 'nothing'}, not a tensor or a tuple of them")
        return found

    def _check_rows(self, inputs: Inputs, rows: int) -> None:
        for x in inputs:
            if x.shape[:1] != (rows,):
                raise self._wrong(f"it made {tuple(x.shape)} of {rows} rows; a step keeps the rows it is given")

    def _wrong(self, what: str) -> MemberError:
        return MemberError(f"member {self._member}: {self.stage}: {what}", "correct members[].preprocess in the YAML")


@dataclass(frozen=True, slots=True)
class _Step:
    """place: of the input it is applied to; None: to all at once."""

    label: str
    place: int | None
    function: Callable[..., object]


def _first_cast(spec: MemberSpec, name: str, first: bool) -> str:
    """The dtype in which an input is taken: what the first step on it casts to, else float32."""
    on_it = (
        step
        for step in spec.preprocess
        if step.input == name or (step.input is None and (first or step.call is not None))
    )
    return getattr(next(on_it, None), "cast", None) or "float32"


class _Misfit(Exception):
    """A step that the rows do not fit."""


def _function(step: StepSpec, who: str, search_path: Path) -> Callable[..., object]:
    if step.call is not None:
        return import_member_code(who, step.call, search_path)
    if step.normalize is not None:
        return _Normalize(step.normalize)
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
        _require_floats(x)
        count = self.mean.numel()
        if count > 1 and (x.dim() < 2 or x.shape[1] != count):
            raise _Misfit(f"{count} channels are given, axis 1 has {x.shape[1] if x.dim() > 1 else 0}")
        shape = (1, count, *[1] * (x.dim() - 2)) if count > 1 else ()
        return (x - self.mean.to(x.dtype).reshape(shape)) / self.std.to(x.dtype).reshape(shape)


def _cast(x: torch.Tensor, by: str) -> torch.Tensor:
    return x.to(getattr(torch, by))


def _scale(x: torch.Tensor, by: float) -> torch.Tensor:
    return x * by


def _resize(x: torch.Tensor, by: Sequence[int]) -> torch.Tensor:
    """Bilinear, corners not aligned, no antialias."""
    _require_floats(x)
    if x.dim() not in (3, 4):
        raise _Misfit("resize takes (rows, height, width) or (rows, channels, height, width)")
    images = x if x.dim() == 4 else x.unsqueeze(1)
    made = torch.nn.functional.interpolate(images, size=tuple(by), mode="bilinear", align_corners=False)
    return made if x.dim() == 4 else made.squeeze(1)


def _crop(x: torch.Tensor, by: Sequence[int]) -> torch.Tensor:
    """The middle; where it lies between two pixels, the upper left."""
    height, width = x.shape[-2:] if x.dim() > 2 else (0, 0)
    if by[0] > height or by[1] > width:
        raise _Misfit(f"{by[0]} × {by[1]} cannot be cut from {height} × {width}")
    top, left = (height - by[0]) // 2, (width - by[1]) // 2
    return x[..., top : top + by[0], left : left + by[1]]


def _layout(x: torch.Tensor, by: str) -> torch.Tensor:
    given, wanted = by.split("->")
    if x.dim() != len(given):
        raise _Misfit(f"{by} is for {len(given)} axes, rows included")
    return x.permute([given.index(letter) for letter in wanted]).contiguous()


def _require_floats(x: torch.Tensor) -> None:
    if not x.is_floating_point():
        raise _Misfit(f"it needs floats, and the input is {str(x.dtype).removeprefix('torch.')}; cast it before")


_STEPS: dict[str, Callable[..., torch.Tensor]] = {
    "cast": _cast,
    "scale": _scale,
    "resize": _resize,
    "crop": _crop,
    "layout": _layout,
}
