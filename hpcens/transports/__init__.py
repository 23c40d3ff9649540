"""Transports: carry messages between roles, over MPI or within one process in virtual time.

The loop that a transport drives a role with is all there is to running one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from hpcens.vocabulary import Message, Send


def _nothing(task: Message) -> None:
    pass


@dataclass(frozen=True, slots=True)
class Hands:
    """What a rank's own thread can do.

    tasks  a task's type → a callable that does it and yields the answers
    ahead  told of a task when it is queued, before its turn: may begin a transfer, must not block
    """

    tasks: Mapping[type, Callable[[Any], Iterable[Message]]] = field(default_factory=dict)
    ahead: Callable[[Message], None] = _nothing


class Role(Protocol):
    """Sans-I/O: told what arrived, says what to send."""

    @property
    def done(self) -> bool: ...
    def start(self) -> list[Send]: ...
    def handle(self, message: Message, source: int) -> list[Send]: ...


class Transport(Protocol):
    """`post` never blocks; `receive` waits for the next message or answer of the own thread."""

    def post(self, sends: Iterable[Send]) -> None: ...
    def receive(self) -> tuple[int, Message]: ...


def drive(role: Role, transport: Transport) -> None:
    """Run one role to its end."""
    transport.post(role.start())
    while not role.done:
        source, message = transport.receive()
        transport.post(role.handle(message, source))
