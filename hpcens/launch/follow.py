"""Follow: see a start through from outside, by its files, and turn a Ctrl-C into an end in order."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable, Collection, Iterator
from types import FrameType, TracebackType
from typing import Protocol

from hpcens.runs import Epoch, RunDirectory, Verdict
from hpcens.runs.cancellation import ask_to_end, asked_to_end

_LOOK_SECONDS = 0.1
_STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Watcher(Protocol):
    """Who is shown how a start goes on."""

    def tick(self, epoch: Epoch) -> None:
        """Show what is new of a start."""

    def say(self, line: str) -> None:
        """Show a line of text."""


class StartedJob(Protocol):
    """A job that goes on by itself, in the background of this host or in Slurm's queue."""

    @property
    def id(self) -> str:
        """Its number, as submitit or Slurm gives it."""

    def follow(self, watcher: Watcher) -> Verdict:
        """Show how its start goes on until it has a verdict, or the job is gone."""


def follow(
    run: RunDirectory,
    newest: int,
    *,
    tick: Callable[[Epoch], None],
    verdict: Callable[[Epoch], Verdict | None],
    gone: Callable[[], Verdict | None],
    own: Callable[[Epoch], bool] = lambda epoch: True,
) -> Verdict:
    """Wait until the run's start has a verdict, or the job that was to make one is gone.

    newest   number of the newest epoch before the job; later ones are its own, unless `own` says otherwise
    tick     called again and again with the job's newest start
    verdict  a start's verdict, if it is the job's last word
    gone     what is to be said where the job has ended; None while it has not
    own      whether a later epoch is the job's
    """
    while True:
        ended = gone()  # asked first: what the job left before its end still counts
        epoch = run.newest
        if epoch is not None and epoch.number > newest and own(epoch):
            with contextlib.suppress(OSError):  # a terminal that is gone, a log on a full disk: the run goes on
                tick(epoch)
            if (final := verdict(epoch)) is not None:
                return final
            if ended is not None:
                return epoch.verdict or ended
        if ended is not None:
            return ended
        time.sleep(_LOOK_SECONDS)


class StopSignals:
    """Within the block INT, TERM and HUP do not end this process: the first drains the run, a second ends it.

    names  of the starts that are to be drained: ids of their claims, or of what announced them
    """

    def __init__(self, run: RunDirectory, names: Collection[str]) -> None:
        self._run = run
        self._names = names
        self._heard: list[int] = []

    def __enter__(self) -> StopSignals:
        self._before = {number: signal.signal(number, self._hear) for number in _STOPS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        self._heard.append(number)

    def pass_on(self) -> signal.Signals | None:
        """Ask the run to drain where a signal was heard; return the second one, if there was one."""
        if self._heard and not asked_to_end(self._run.cancel, self._names):
            with contextlib.suppress(OSError):  # where the disk is full the run ends by itself
                ask_to_end(self._run.cancel, f"stopped by {signal.Signals(self._heard[0]).name}", self._names)
        return signal.Signals(self._heard[1]) if len(self._heard) > 1 else None


class HeardSignals:
    """What asks this world to end: signals, the first of which drains and the second kills."""

    def __init__(self) -> None:
        self.signals: list[signal.Signals] = []

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Take signals as requests within the block."""
        before = {number: signal.signal(number, self._hear) for number in (*_STOPS, signal.SIGUSR2)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        self.signals.append(signal.Signals(number))

    @property
    def warned(self) -> bool:
        """Whether Slurm has warned of the end of the job."""
        return signal.SIGUSR2 in self.signals
