"""Networks: what a member's file or factory gives, and the batch sizes it admits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True)
class Network:
    """A module, and the batches it admits: from `least` to `most` rows (None: any number).

    state  digest of weights that its factory has loaded; empty for others
    notes  what a user may want to know of how it was loaded
    """

    module: torch.nn.Module
    least: int = 1
    most: int | None = None
    state: str = ""
    notes: tuple[str, ...] = ()

    def slices(self, rows: int) -> Iterator[tuple[int, int, int]]:
        """Cut a batch of rows into pieces that are admitted: (start, stop, rows that the piece lacks)."""
        step = self.most or max(rows, 1)
        for start in range(0, rows, step):
            stop = min(start + step, rows)
            yield start, stop, max(0, self.least - (stop - start))


class Passes(torch.nn.Module):
    """A network for any batch size: batches are cut into what it admits, the last piece padded with its last row.

    A graph exported for 8 rows runs 8 rows at a time, whatever the planned batch is.
    """

    def __init__(self, network: Network, choose: Callable[[object], torch.Tensor]) -> None:
        """Run a network. choose: picks the output that is meant, of all that the module returns."""
        super().__init__()
        self.module = network.module
        self._network = network
        self._choose = choose

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        """Return the selected output for inputs of (rows, *row shape) each, in batches that the network accepts."""
        rows = len(inputs[0])
        if self._network.least <= rows <= (self._network.most or rows):
            return self._choose(self.module(*inputs))
        whole: torch.Tensor | None = None
        for start, stop, padding in self._network.slices(rows):
            piece = [x[start:stop] for x in inputs]
            if padding:
                piece = [torch.cat([x, x[-1:].expand(padding, *x.shape[1:])]) for x in piece]
            values = self._choose(self.module(*piece))
            if padding and len(values) == stop - start + padding:
                values = values[: stop - start]
            if stop - start == rows:
                return values
            if whole is None:
                whole = values.new_empty((rows, *values.shape[1:]))
            if values.shape != (stop - start, *whole.shape[1:]):
                wanted = f"and {tuple(whole.shape[1:])} a row before" if start else "one output row per row"
                raise ValueError(f"it returned {tuple(values.shape)} for {stop - start} rows, {wanted}")
            whole[start:stop] = values  # before the next call, which may write where this one's output lies
        assert whole is not None, "a batch has rows"
        return whole
