"""A message under way: its head is there, the arrays behind it are still coming."""

from __future__ import annotations

from collections.abc import Callable

from hpcens.vocabulary import Array, Message, carrying


class Arrival:
    """A message whose head is there and whose bodies are still coming.

    message   without them
    bodies    arrays that are being filled
    coming    asks of each body that is still to come whether it has
    followed  whether any was: its sender waits until it has come
    """

    def __init__(self, message: Message, bodies: list[Array], coming: list[Callable[[], bool]]) -> None:
        self._bare = message
        self._bodies = bodies
        self._coming = coming
        self.followed = bool(coming)

    def complete(self) -> bool:
        """Return whether all bodies are there."""
        self._coming = [has_come for has_come in self._coming if not has_come()]
        return not self._coming

    def message(self) -> Message:
        """Return the message with its bodies in place."""
        return carrying(self._bare, self._bodies)
