"""Precision: a module's own numbers, and what it is called with, brought to the dtype in which its member computes.

Real numbers become that dtype, complex ones the complex dtype of the same width, or complex64 where there is none of
use (torch has no half of it on a CPU): no imaginary part is ever dropped.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import chain

import torch

from hpcens.errors import MemberError
from hpcens.shell import listed
from hpcens.specs import MemberSpec
from hpcens.usercode import describe_exception

_WIDE = (torch.float64, torch.complex128)


def cast(x: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Bring floats to the dtype, complex numbers to its complex one; return others as they are."""
    if x.is_complex():
        return x.to(torch.complex128 if dtype == torch.float64 else torch.complex64)
    return x.to(dtype) if x.is_floating_point() else x


def cast_module(module: torch.nn.Module, dtype: torch.dtype) -> torch.nn.Module:
    """Bring a module's parameters and buffers to the dtype, in place.

    `torch.nn.Module.to` would make complex ones real.
    """
    if any(x.is_complex() for _, x in _own(module)):
        module._apply(partial(cast, dtype=dtype))  # type: ignore[no-untyped-call]
        return module
    return module.to(dtype)


def in_precision(spec: MemberSpec, module: torch.nn.Module) -> torch.nn.Module:
    """Bring a module to the precision of its member. Raises MemberError where that is not written, or cannot be."""
    require_written(spec, module)
    try:
        return cast_module(module, getattr(torch, spec.dtype))
    except Exception as error:
        raise MemberError(
            f"member {spec.name} cannot be brought to {spec.computes_in}: {describe_exception(error)}",
            "give it precision: float32",
        ) from error


def require_written(spec: MemberSpec, module: torch.nn.Module) -> None:
    """Raise MemberError where a module holds float64 and the YAML does not say in which precision it computes."""
    wide = [name for name, x in _own(module) if x.dtype in _WIDE]
    if spec.unsaid and wide:
        raise unwritten(spec, f"holds float64 ({listed(wide, 3)})")


def unwritten(spec: MemberSpec, what: str) -> MemberError:
    """Return the error for a member of float64 whose precision is not written. what: in which way it is of float64."""
    return MemberError(
        f"member {spec.name} {what}, and float32 would round it",
        "write precision: float64 for it, in which it then computes, is combined and stored; or precision: float32,"
        " to have it rounded",
    )


@dataclass(frozen=True, slots=True)
class Cast:
    """What the rows of an input are cast to before anything else.

    dtype     the first step's, or float32, or float64 under that precision
    written   whether the YAML says so: integers are then rounded to it as they come
    computes  the precision of the member, where no step lies between; else as `dtype`
    """

    dtype: torch.dtype
    written: bool
    computes: torch.dtype

    def lost(self, rows: torch.Tensor) -> list[int]:
        """Return the rows, of (rows, *row shape) as they are stored, with numbers that become others, or infinite.

        Fractions that are rounded, or cut off by a cast to integers, do not count.
        """
        bounds = self._bounds(rows.dtype)
        if bounds is None:
            return []
        low, high = bounds
        numbers = _comparable(rows, whole=not self.dtype.is_floating_point)
        least, most = torch.aminmax(numbers)
        if low <= least.item() and most.item() <= high:
            return []
        outside = ~((numbers >= low) & (numbers <= high))
        if rows.is_floating_point() and self.dtype.is_floating_point:
            outside &= torch.isfinite(numbers)  # what is infinite before is no matter of the cast
        return torch.nonzero(outside.reshape(len(rows), -1).any(1)).reshape(-1).tolist()

    def float32_suffices(self, stored: torch.dtype) -> bool:
        """Tell whether no number of this dtype is lost that is finite in float32."""
        wide = self.dtype.is_floating_point and _range(torch.float32)[1] <= min(
            _range(self.dtype)[1], _range(self.computes)[1]
        )
        return stored.is_floating_point and wide

    def _bounds(self, stored: torch.dtype) -> tuple[float, float] | None:
        """Return the least and the largest number that survives; None where all of this dtype do."""
        if stored == torch.bool:
            return None
        first, last = _range(stored)
        if not self.dtype.is_floating_point:
            low, high = _range(self.dtype)
            if stored.is_floating_point and self.dtype == torch.int64:
                high = 2.0**63 - 2**10  # the largest float64 below
        else:
            high = min(_range(self.dtype)[1], _range(self.computes)[1])
            if not stored.is_floating_point:
                high = int(high if self.written else min(high, 2 ** (1 + _FRACTION[self.dtype])))
            low = -high
        return None if low <= first and last <= high else (max(low, first), high)


_FRACTION = {torch.float64: 52, torch.float32: 23, torch.float16: 10, torch.bfloat16: 7}
"""Bits of a number's fraction."""


def _range(dtype: torch.dtype) -> tuple[float, float]:
    dtype = torch.float32 if dtype == torch.bfloat16 else dtype  # but for a part in 256 it is the same
    information = torch.finfo(dtype) if dtype.is_floating_point else torch.iinfo(dtype)
    return information.min, information.max


def _comparable(rows: torch.Tensor, *, whole: bool) -> torch.Tensor:
    """Return the rows in a dtype that torch compares; numbers beyond int64 become negative."""
    if rows.is_floating_point():
        return rows.to(torch.float64).trunc() if whole else rows
    unsigned = not rows.dtype.is_signed and rows.dtype != torch.uint8
    return rows.to(torch.int64) if unsigned else rows


def _own(module: torch.nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    return chain(module.named_parameters(), module.named_buffers())
