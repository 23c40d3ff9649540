"""What a rank's own threads hand to its main thread, which sleeps in short stretches and wakes for them."""

from __future__ import annotations

from collections import deque
from typing import Any

from hpcens.transports.bells import Bells


class Mailbox:
    """Hold answers that any thread puts and one thread takes.

    bells  by which the thread that takes is woken
    """

    def __init__(self, bells: Bells) -> None:
        self._answers: deque[Any] = deque()
        self._bells = bells

    def put(self, answer: Any) -> None:
        """Add an answer and wake whoever waits for one."""
        self._answers.append(answer)
        self._bells.ring_own()

    def take(self, seconds: float) -> list[Any]:
        """Take all answers, in the order in which they came; wait up to `seconds` for the bell to ring."""
        self._bells.wait(seconds)
        return [self._answers.popleft() for _ in range(len(self._answers))]
