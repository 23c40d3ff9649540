"""Bells: how a rank wakes another of its host that sleeps, so that nobody has to look for messages all the time.

A bell is a socket in the abstract namespace: it has no file, and nothing is left of it when its process has ended.
Who cannot be reached so, on another host or in another namespace, looks for messages as if there were none.
"""

from __future__ import annotations

import secrets
import select
import socket
import time
from collections.abc import Sequence
from contextlib import suppress
from math import ceil

_POLLED_SECONDS = 1e-3


class Bells:
    """The bell of this rank, which its own threads ring too, and those of others that it reaches.

    address     of its own
    all_nearby  every other rank of the world is reached, and so reaches this one
    """

    def __init__(self) -> None:
        self.address = b"\0hpcens-" + secrets.token_hex(8).encode()
        self.all_nearby = False
        self._own = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._own.setblocking(False)
        self._own.bind(self.address)
        self._rings = select.poll()  # not select: a process may have more than 1,024 descriptors
        self._rings.register(self._own, select.POLLIN)
        self._others: dict[int, bytes] = {}

    def reach(self, addresses: Sequence[bytes]) -> None:
        """Ring every other bell once, to learn which are heard; `addresses` of all ranks, in their order."""
        others = {rank: address for rank, address in enumerate(addresses) if address != self.address}
        self._others = {rank: address for rank, address in others.items() if self._ring(address)}
        self.all_nearby = len(self._others) == len(others)

    def ring(self, rank: int) -> None:
        """Wake a rank, if it is reached."""
        if (address := self._others.get(rank)) is not None:
            self._ring(address)

    def ring_own(self) -> None:
        """Wake the main thread of this rank."""
        self._ring(self.address)

    def wait(self, seconds: float) -> None:
        """Wait until the bell rings, or so long; at once where it has rung since the last time.

        What is shorter than a millisecond, of which poll knows nothing, is waited out.
        """
        if seconds < _POLLED_SECONDS:
            time.sleep(seconds)
        if self._rings.poll(ceil(1000 * seconds) if seconds >= _POLLED_SECONDS else 0):
            with suppress(BlockingIOError):
                while True:
                    self._own.recv(1)

    def close(self) -> None:
        """Take the bell down."""
        self._own.close()

    def _ring(self, address: bytes) -> bool:
        """Return whether it is heard."""
        try:
            self._own.sendto(b"", address)
        except BlockingIOError:  # rung several times already, and not yet heard
            return True
        except OSError:
            return False
        return True
