"""Passes that are timed: as a run makes them, with several batches each."""

from __future__ import annotations

import math
import time
from typing import Any

from hpcens.engine import Engine

# A pass of one batch that takes less is timed with several, as a segment has them: what a segment takes beside its
# batches is most of it. So many of them, and so many bytes of rows, at most.
_SHORT = 2e-3
_MOST_BATCHES = 32
_MOST_BYTES = 4 << 20
# The first passes of a member take longer, and of short ones they tell nothing: so many are not counted at most.
_FIRST_PASSES = 20


class Passes:
    """Passes of one hosted member, or group, on rows of one batch; those of a short one have several of it.

    rows   of a pass
    alone  seconds of the first, on the batch alone
    """

    def __init__(self, engine: Engine, name: str, staged: Any, *, most: float) -> None:
        """Make one of the batch alone, and the first of those to come where it is short.

        staged  (batch, *row shape) of each input of the dataset, on the device
        most    seconds that passes that are not counted may take, but for the first of them
        """
        self._engine, self._name = engine, name
        self._staged = staged
        self.alone = self.seconds()
        self._staged = repeated(staged, self.alone)
        self.rows = len(self._staged[0])
        if self.rows == len(staged[0]):
            return
        end = time.perf_counter() + most
        for _ in range(_FIRST_PASSES):
            self.seconds()
            if time.perf_counter() > end:
                break

    def seconds(self) -> float:
        """Make one, and return what it took."""
        began = time.perf_counter()
        self._engine.run(self._name, self._staged)
        return time.perf_counter() - began


def repeated(staged: Any, seconds: float) -> Any:
    """Return rows of one batch on a device as often as a pass of them is to have; as they are where once is enough.

    seconds  that a pass of one takes
    """
    size = sum(x.nbytes for x in staged)
    count = min(_MOST_BATCHES, _MOST_BYTES // max(1, size), math.ceil(_SHORT / max(seconds, 1e-9)))
    return staged if count < 2 else tuple(x.repeat(count, *[1] * (x.ndim - 1)) for x in staged)
