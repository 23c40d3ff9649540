"""What asks a start to stop: signals to its ranks, and the cancel file of the run directory."""

from __future__ import annotations

import faulthandler
import signal
import time
from pathlib import Path

from hpcens.runs import DrainBegan, Events
from hpcens.vocabulary import Drain, Message

# Seconds between two looks for the cancel file.
_LOOK_SECONDS = 0.5


class StopRequests:
    """Notice that this rank is asked to stop, and have it drained, once.

    signals  numbers of those that came, in their order
    """

    def __init__(self) -> None:
        self.signals: list[int] = []
        self._reason = ""
        self._drained = False
        self._cancel: Path | None = None
        self._events: Events | None = None
        self._looked = 0.0

    def catch_signals(self) -> None:
        """Take INT, TERM and USR2 as requests from now on; let USR1 write all threads' stacks into the log."""
        numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2)
        for number in numbers:
            signal.signal(number, self._on_signal)
        faulthandler.register(signal.SIGUSR1)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {*numbers, signal.SIGUSR1})

    def watch(self, cancel: Path, events: Events) -> None:
        """Also look for the cancel file, and add an event when a drain begins; at rank 0."""
        self._cancel = cancel
        self._events = events

    def notice(self) -> Message | None:
        """Return the drain that was asked for, once; None where there is nothing (new) to do."""
        if self._drained:
            return None
        if not self._reason:
            self._look_for_cancel()
        if not self._reason:
            return None
        self._drained = True
        if self._events is not None:
            self._events.add(DrainBegan(self._reason))
        return Drain(self._reason)

    def _look_for_cancel(self) -> None:
        if self._cancel is None or time.monotonic() - self._looked <= _LOOK_SECONDS:
            return
        self._looked = time.monotonic()
        if self._cancel.exists():
            self._reason = self._cancel.read_text().strip() or "cancelled"

    def _on_signal(self, number: int, frame: object) -> None:
        self.signals.append(number)
        self._reason = f"stopped by {signal.Signals(number).name}"
