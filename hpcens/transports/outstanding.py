"""Outputs on their way: a device goes on only while those that its reducers have not taken fit what is planned."""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Iterator
from dataclasses import replace
from threading import Condition

from hpcens.vocabulary import Predicted


class Outstanding:
    """Bytes of outputs that were handed over, and are still held to be sent.

    most  of them there may be while the next are computed, unless one alone is larger
    """

    def __init__(self, most: int) -> None:
        self._most = self._largest = most
        self._bytes = 0
        # Of a lock that whoever holds it may take again: where arrays end, this is told, in any thread.
        self._changed = Condition()

    def counted(self, answers: Iterable[Predicted]) -> Iterator[Predicted]:
        """Yield the answers with values that are counted while anybody holds them: views that nobody else has."""
        yield from map(self._count, answers)

    def wait(self) -> bool:
        """Wait until no more are held than may be; return whether there were more."""
        with self._changed:
            waited = self._bytes > self._largest
            self._changed.wait_for(lambda: self._bytes <= self._largest)
        return waited

    def _count(self, predicted: Predicted) -> Predicted:
        values = predicted.values.view()
        size = values.nbytes
        with self._changed:
            self._bytes += size
            self._largest = max(self._most, size)
        weakref.finalize(values, self._sent, size).atexit = False
        return replace(predicted, values=values)

    def _sent(self, size: int) -> None:
        with self._changed:
            self._bytes -= size
            self._changed.notify_all()
