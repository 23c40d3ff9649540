"""When a rank is joined: it does not wait for devices that still load their members."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from hpcens.transports import Transport
from hpcens.vocabulary import LOCAL, Message, Send


class Joining:
    """Carry the messages of a role, and note when the first comes from another rank.

    For a reader that is when the first device has loaded its members and has room for rows.

    transport  that carries them
    begin      called then
    """

    def __init__(self, transport: Transport, begin: Callable[[], None]) -> None:
        self._transport = transport
        self._begin = begin
        self._began: float | None = None
        self._made = time.monotonic()

    def post(self, sends: Iterable[Send]) -> None:
        """See `Transport.post`."""
        self._transport.post(sends)

    def receive(self) -> tuple[int, Message]:
        """See `Transport.receive`."""
        source, message = self._transport.receive()
        if source != LOCAL and self._began is None:
            self._began = time.monotonic()
            self._begin()
        return source, message

    @property
    def seconds(self) -> float:
        """Seconds from then until now; from the beginning where nothing has come."""
        return time.monotonic() - (self._made if self._began is None else self._began)
