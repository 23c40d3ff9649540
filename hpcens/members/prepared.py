"""Prepared rows: what a batch came to before the networks of several members, computed once for all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from hpcens.members.preprocess import PreprocessingFailed

Values = Mapping[str, torch.Tensor]
"""Name, or number, of an input of networks → its values, (batch, …)."""
Rows = Sequence[torch.Tensor]
"""(batch, *row shape) of each input of the dataset that is taken."""


class Prepared:
    """What one batch was prepared to: asked for by the very tensors of its rows, and held until all have had it."""

    def __init__(self) -> None:
        self._kept: list[tuple[Rows, Values | PreprocessingFailed]] = []
        self._good: tuple[Rows, list[int], Rows] | None = None

    def keep(self, rows: Rows, values: Values | PreprocessingFailed) -> None:
        """Keep what these rows were prepared to, or how that failed."""
        self._kept.append((rows, values))

    def keep_good(self, rows: Rows, good: list[int], stand_ins: Rows) -> None:
        """Keep which of a batch's rows can be prepared, and the batch in which one of them stands for each other."""
        self._good = rows, good, stand_ins

    def good(self, rows: Rows) -> tuple[list[int], Rows] | None:
        """Return what `keep_good` has kept of these rows; None where it has kept nothing."""
        return self._good[1:] if self._good is not None and _same(self._good[0], rows) else None

    def of(self, rows: Rows) -> Values | None:
        """Return what these rows were prepared to; None where that was not kept. Raises how it failed."""
        for kept, values in self._kept:
            if _same(kept, rows):
                if isinstance(values, PreprocessingFailed):
                    raise values
                return values
        return None


def _same(first: Rows, second: Rows) -> bool:
    return len(first) == len(second) and all(x is y for x, y in zip(first, second, strict=True))
