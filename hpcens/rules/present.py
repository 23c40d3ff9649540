"""Presence: which members have an output for a row. Rows of one set of members are combined as their ensemble."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt


def sets_of(present: npt.NDArray[Any]) -> Iterator[tuple[tuple[int, ...], npt.NDArray[np.intp]]]:
    """Yield each set of members that a row has, as their places in member order, with the places of its rows.

    Rows that no member scores are in none.

    present  (rows, members) bool: whether the member has an output for the row
    """
    if not present.any():
        return
    packed, of_row = np.unique(np.packbits(present, axis=1), axis=0, return_inverse=True)
    flags = np.unpackbits(packed, axis=1, count=present.shape[1])
    for number, members in enumerate(flags):
        if members.any():
            yield tuple(np.flatnonzero(members).tolist()), np.flatnonzero(of_row.reshape(-1) == number)
