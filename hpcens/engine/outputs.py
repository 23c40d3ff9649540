"""A segment's outputs of one member, copied batch by batch before the member is called again.

What it returns may be a buffer that its next call overwrites, a parameter, or a view of either.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from hpcens.engine.hardware import Hardware
from hpcens.errors import MemberError
from hpcens.vocabulary import Array

if TYPE_CHECKING:
    import torch


class Outputs:
    """Room for them, filled batch by batch.

    name  the member's, for errors
    rows  of the segment
    """

    def __init__(self, hardware: Hardware, name: str, rows: int) -> None:
        """Make room at the first batch, whose shape the others must have."""
        self._hardware = hardware
        self._name = name
        self._rows = rows
        self._room: Any = None
        self._shape: tuple[int, ...] = ()
        self._numbers = 0
        self._blank: list[int] = []

    def take(self, start: int, values: torch.Tensor) -> None:
        """Copy the outputs of a batch, (batch, *output shape), to their place.

        start  place of the batch's first row in the segment
        """
        if self._room is None:
            self._shape = tuple(values.shape[1:])
            self._room = self._hardware.room((self._rows, *self._shape), values.dtype)
            self._numbers = values[:1].numel()
        if values.numel() != len(values) * self._numbers:  # it would be broadcast
            raise MemberError(
                f"member {self._name} returned rows of {list(self._shape)} and of {list(values.shape[1:])} for"
                " one segment",
                "let its forward return one shape per row, whatever the rows",
            )
        self._hardware.put(self._room, start, values)

    def blank(self, rows: Sequence[int]) -> None:
        """Put NaN in the place of these rows of the segment."""
        self._blank += rows

    def fetch(self) -> Array:
        """Return all of them, in host memory; wait for those on their way."""
        values = self._hardware.fetch(self._room)
        if self._blank:
            values[self._blank] = math.nan
        return values
