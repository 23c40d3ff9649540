"""A segment's outputs of one member, copied batch by batch before the member is called again.

What it returns may be a buffer that its next call overwrites, a parameter, or a view of either.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hpcens.engine.hardware import Hardware
from hpcens.errors import MemberError
from hpcens.vocabulary import Array

if TYPE_CHECKING:
    import torch


class Outputs:
    """Room for them, filled batch by batch."""

    def __init__(self, hardware: Hardware, name: str, rows: int) -> None:
        """Make room at the first batch, whose shape the others must have. name: the member's, for errors."""
        self._hardware = hardware
        self._name = name
        self._rows = rows
        self._whole: torch.Tensor | None = None

    def take(self, start: int, values: torch.Tensor) -> torch.Tensor:
        """Copy the outputs of a batch, (batch, *output shape), to its place; return the copy.

        start  place of the batch's first row in the segment
        """
        if self._whole is None:
            self._whole = self._hardware.room((self._rows, *values.shape[1:]), values.dtype)
        elif values.shape[1:] != self._whole.shape[1:]:
            raise MemberError(
                f"member {self._name} returned {list(values.shape[1:])} a row, and {list(self._whole.shape[1:])} for"
                " other rows of the same segment",
                "let its forward return one shape per row, whatever the rows",
            )
        return self._whole[start : start + len(values)].copy_(values)

    def fetch(self) -> Array:
        """Return all of them, in host memory."""
        assert self._whole is not None, "a segment has rows"
        return self._hardware.fetch(self._whole)
