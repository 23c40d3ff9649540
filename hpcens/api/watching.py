"""Show how a start goes on, or not; and who may start one."""

from __future__ import annotations

import threading
from typing import Protocol

from hpcens.errors import UsageError
from hpcens.launch.follow import Watcher
from hpcens.reports.progress import Follower
from hpcens.runs import Epoch


class ClosableWatcher(Watcher, Protocol):
    """A watcher that leaves the terminal as a line of text needs it."""

    def close(self) -> None:
        """Show nothing more."""


class Nothing:
    """Show nothing."""

    def tick(self, epoch: Epoch) -> None:
        """Show nothing of a start."""

    def say(self, line: str) -> None:
        """Show no line."""

    def close(self) -> None:
        """Leave everything as it is."""


def watcher(*, quiet: bool) -> ClosableWatcher:
    """Return what shows progress on the standard error; where it is to be quiet, what shows nothing."""
    return Nothing() if quiet else Follower()


def require_main_thread(function: str) -> None:
    """Raise UsageError in any other thread: signals, which end a start in order, are heard in the main thread alone."""
    if threading.current_thread() is not threading.main_thread():
        raise UsageError(f"{function} is called in another thread than the main one", "call it in the main thread")
