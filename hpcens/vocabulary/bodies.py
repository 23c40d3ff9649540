"""Bodies: the arrays that messages carry across ranks, apart from the rest of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from hpcens.vocabulary.messages import Batch, Message, Prediction, Routed
from hpcens.vocabulary.rows import Array


def payload(message: Message) -> tuple[Array, ...]:
    """Return the arrays a message carries across ranks, each contiguous."""
    import numpy as np

    if isinstance(message, Batch):
        return tuple(np.ascontiguousarray(array) for array in message.rows)
    if isinstance(message, Prediction):
        return (np.ascontiguousarray(message.values),)
    if isinstance(message, Routed):
        return (np.ascontiguousarray(message.present),)
    return ()


def carrying(message: Message, arrays: Sequence[Array]) -> Message:
    """Return the message with these arrays for its payload."""
    if isinstance(message, Batch):
        return replace(message, rows=tuple(arrays))
    if isinstance(message, Prediction):
        return replace(message, values=arrays[0])
    if isinstance(message, Routed):
        return replace(message, present=arrays[0])
    return message
