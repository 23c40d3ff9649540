"""Batches of one row: the last of a dataset may be one, and squeeze() takes its axis of rows away."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

Called = Callable[[Sequence[torch.Tensor]], torch.Tensor]
"""Gives a member's output for the rows of a batch, (batch, *row shape) of each input."""


class SingleRows:
    """Run a batch of one row: by itself, or where that fails as two rows, of which the second is cut.

    doubles  whether one has failed by itself
    """

    def __init__(self) -> None:
        self.doubles = False

    def run(self, rows: Sequence[torch.Tensor], called: Called) -> torch.Tensor:
        """Return the output for one row. Raises what it raises by itself, where two rows fail as well."""
        failure: Exception | None = None
        if not self.doubles:
            try:
                values = called(rows)
                if values.shape[:1] == (1,):
                    return values
            except Exception as error:  # whatever its code raises
                failure = error
        try:
            values = called([torch.cat([x, x]) for x in rows])
        except Exception:
            if failure is None:
                raise
            raise failure from None  # it fails on two rows as well: the first says what is wrong
        if values.shape[:1] == (2,):
            self.doubles = True
            return values[:1]
        if failure is not None:
            raise failure
        return values
