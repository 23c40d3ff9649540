"""The vote: each member counts for one class."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hpcens.rules.stack import Doubles, Floats


def vote(stack: Sequence[Floats], axis: int = -1) -> Doubles:
    """Return the share of the members whose largest output is the class.

    A member's tie goes to its first class; classes with equal shares stay equal, and the label is the first of them.

    axis  of the classes
    """
    votes = np.zeros(stack[0].shape, np.float64)
    for values in stack:
        winner = np.expand_dims(values.argmax(axis=axis), axis)
        np.put_along_axis(votes, winner, np.take_along_axis(votes, winner, axis) + 1.0, axis)
    return votes / len(stack)
