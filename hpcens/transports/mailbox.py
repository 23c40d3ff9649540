"""Answers: what a rank's own threads hand to its main thread, which sleeps in short stretches and wakes for them."""

from __future__ import annotations

import threading
from collections import deque
from contextlib import suppress
from typing import Any


class Answers:
    """Any thread puts; one takes.

    Not queue.SimpleQueue: where a short timeout runs out between two of its steps, its `get` takes what is
    left of it for "no timeout" and never returns (CPython 3.11).
    """

    def __init__(self) -> None:
        self._there: deque[Any] = deque()
        self._bell = threading.Lock()
        self._bell.acquire()

    def put(self, answer: Any) -> None:
        self._there.append(answer)
        with suppress(RuntimeError):  # rung already, not yet heard
            self._bell.release()

    def take(self, seconds: float) -> list[Any]:
        """All that is there, in the order in which it came; waits up to `seconds` for the first."""
        self._bell.acquire(timeout=seconds)
        return [self._there.popleft() for _ in range(len(self._there))]
