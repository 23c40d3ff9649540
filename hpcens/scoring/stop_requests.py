"""What asks a start to stop: signals to its ranks, and a request in the run directory."""

from __future__ import annotations

import faulthandler
import signal
import time
from collections.abc import Callable

from hpcens.runs import DrainBegan, Events
from hpcens.vocabulary import Drain, Message

# Seconds between two looks for a request.
_LOOK_SECONDS = 0.5


class StopRequests:
    """Notice that this rank is asked to stop, and have it drained, once.

    signals  numbers of those that came, in their order
    """

    def __init__(self) -> None:
        self.signals: list[int] = []
        self._reason = ""
        self._drained = False
        self._asked: Callable[[], str] | None = None
        self._events: Events | None = None
        self._looked = 0.0
        self._due = 0.0
        self._drain = 0.0
        self._limit: Callable[[], float] = float

    def catch_signals(self) -> None:
        """Take INT, TERM and USR2 as requests from now on; let USR1 write all threads' stacks into the log."""
        numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2)
        for number in numbers:
            signal.signal(number, self._on_signal)
        faulthandler.register(signal.SIGUSR1)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {*numbers, signal.SIGUSR1})

    def watch(self, asked: Callable[[], str], events: Events) -> None:
        """Also look for a request in the run directory, and add an event when a drain begins; at rank 0.

        asked  returns why the start is asked to end; nothing where it is not
        """
        self._asked = asked
        self._events = events

    def expect_limit(self, ends: float, drain: float, limit: Callable[[], float]) -> None:
        """Take the start for warned so long before its time limit, though the warning came before this rank could hear.

        ends   seconds since 1970 at which the limit ends it, as its environment says; 0 where it does not
        drain  seconds before it
        limit  asked what the end is now, since a limit may be moved; 0 where that is not known
        """
        ends = ends or limit()
        self._due, self._drain, self._limit = (ends - drain if ends else 0.0), drain, limit

    def notice(self) -> Message | None:
        """Return the drain that was asked for, once; None where there is nothing (new) to do."""
        if self._drained:
            return None
        if not self._reason:
            self._look_for_request()
        if not self._reason and self._due and time.time() >= self._due:
            self._look_at_limit()
        if not self._reason:
            return None
        self._drained = True
        if self._events is not None:
            self._events.add(DrainBegan(self._reason))
        return Drain(self._reason)

    def _look_for_request(self) -> None:
        if self._asked is None or time.monotonic() - self._looked <= _LOOK_SECONDS:
            return
        self._looked = time.monotonic()
        self._reason = self._asked()

    def _look_at_limit(self) -> None:
        ends = self._limit()
        if ends and time.time() < ends - self._drain:
            self._due = ends - self._drain
        else:
            self._on_signal(signal.SIGUSR2, None)

    def _on_signal(self, number: int, frame: object) -> None:
        self.signals.append(number)
        self._reason = f"stopped by {signal.Signals(number).name}"
