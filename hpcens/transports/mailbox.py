"""What a rank's own threads hand to its main thread, which sleeps in short stretches and wakes for them."""

from __future__ import annotations

import threading
from collections import deque
from contextlib import suppress
from typing import Any


class Mailbox:
    """Hold answers that any thread puts and one thread takes.

    Not queue.SimpleQueue: where a short timeout runs out between two of its steps, its `get` takes what is
    left of it for "no timeout" and never returns (CPython 3.11).
    """

    def __init__(self) -> None:
        self._answers: deque[Any] = deque()
        self._bell = threading.Lock()
        self._bell.acquire()

    def put(self, answer: Any) -> None:
        """Add an answer and wake whoever waits for one."""
        self._answers.append(answer)
        with suppress(RuntimeError):  # rung already, not yet heard
            self._bell.release()

    def take(self, seconds: float) -> list[Any]:
        """Take all answers, in the order in which they came; wait up to `seconds` for the first."""
        self._bell.acquire(timeout=seconds)
        return [self._answers.popleft() for _ in range(len(self._answers))]
