"""When devices join: the others do not wait for one that still loads its members."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from statistics import fmean

from hpcens.transports import Transport
from hpcens.vocabulary import LOCAL, Message, Ready, Send


class Joining:
    """Carry the messages of a reader, and note when each device has room for rows for the first time.

    transport  that carries them
    begin      called when the first message comes from another rank: by then a device has joined, or is broken
    """

    def __init__(self, transport: Transport, begin: Callable[[], None]) -> None:
        self._transport = transport
        self._begin = begin
        self._begun = False
        self._since = time.monotonic()
        self._joined: dict[int, float] = {}

    def post(self, sends: Iterable[Send]) -> None:
        """See `Transport.post`."""
        self._transport.post(sends)

    def receive(self) -> tuple[int, Message]:
        """See `Transport.receive`."""
        source, message = self._transport.receive()
        if source != LOCAL and not self._begun:
            self._begun = True
            self._begin()
        if isinstance(message, Ready):
            self._joined.setdefault(source, time.monotonic())
        return source, message

    @property
    def seconds(self) -> float:
        """Seconds until now since devices have joined, on average over them; since the start where none has."""
        return time.monotonic() - (fmean(self._joined.values()) if self._joined else self._since)
