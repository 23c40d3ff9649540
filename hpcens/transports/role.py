"""The loop that runs a role over a transport; there is nothing else to running one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from hpcens.vocabulary import Message, Send


class Role(Protocol):
    """Decide what to send, from what arrived; without I/O."""

    @property
    def done(self) -> bool:
        """Whether the role has ended."""

    def start(self) -> list[Send]:
        """Return what is to be sent before anything arrives."""

    def handle(self, message: Message, source: int) -> list[Send]:
        """Take in a message from rank `source`, or an answer from LOCAL; return what is to be sent."""


class Transport(Protocol):
    """Carry messages between ranks, and tasks to the rank's own thread."""

    def post(self, sends: Iterable[Send]) -> None:
        """Begin to deliver messages and tasks; never block."""

    def receive(self) -> tuple[int, Message]:
        """Wait for the next message, or answer of the own thread; return it with the rank it comes from."""


def drive(role: Role, transport: Transport) -> None:
    """Run one role to its end."""
    transport.post(role.start())
    while not role.done:
        source, message = transport.receive()
        transport.post(role.handle(message, source))
