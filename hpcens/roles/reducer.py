"""The reducer: gathers the members of a segment, has them combined and written, reports what is durable."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Sequence

from hpcens.roles.dispatch import turn
from hpcens.roles.parts import Assembly
from hpcens.vocabulary import (
    LOCAL,
    Bye,
    Drain,
    Flush,
    Flushed,
    Last,
    Message,
    Prediction,
    Routed,
    Send,
    Wait,
    Waited,
    Write,
    Written,
    Wrote,
)


class Reducer:
    """Gather the members of each segment, have it written once all are there, the stack in member order. Sans-I/O.

    Written segments are made durable in groups: after half as many as a reader's window holds of this reducer's
    segments, after `seconds`, or when no others will come. Were a group larger than what the window still admits,
    neither reader nor reducer would move.

    members   member names, in member order
    devices   ranks of the devices
    readers   ranks of the readers, in the order of their turns
    reducers  number of reducers
    window    segments of each reader that may be handed out and not durable
    seconds   a group is made durable after this long
    routed    whether members do not score all rows: who scores a segment is told by its reader
    """

    def __init__(
        self,
        *,
        members: Sequence[str],
        devices: Collection[int],
        readers: Sequence[int],
        reducers: int = 1,
        window: int,
        seconds: float,
        routed: bool = False,
    ) -> None:
        self._members = tuple(members)
        self._routed = routed
        self._routes: dict[int, Routed] = {}
        self._awaited = set(devices)
        self._readers = tuple(readers)
        self._group = max(1, window // (2 * reducers))
        self._seconds = seconds
        self._stacks: dict[int, dict[str, Prediction]] = {}
        self._assembly = Assembly()
        self._writing: set[int] = set()
        self._volatile: list[int] = []
        self._flushing: set[int] = set()
        # reader → durable segments that it may not know of yet
        self._durable: dict[int, deque[int]] = {reader: deque(maxlen=window) for reader in readers}
        self._last: dict[int, frozenset[int]] = {}
        self._clock = False

    @property
    def done(self) -> bool:
        """Whether every device has gone and all that any reader waits for is durable."""
        return not self._awaited and self._ended(())

    def start(self) -> list[Send]:
        """Wait for predictions."""
        return []

    def handle(self, message: Message, source: int) -> list[Send]:
        """Take in a message of the protocol."""
        match message:
            case Prediction(segment, member):
                if self._dropped(segment):
                    return []
                stack = self._stacks.setdefault(segment, {})
                if member in stack or segment in self._writing:
                    raise RuntimeError(f"segment {segment} of member {member} came twice, now from rank {source}")
                if (whole := self._assembly.add(message)) is None:
                    return []
                stack[member] = whole
                return self._write(segment)
            case Routed(segment):
                if self._dropped(segment):
                    return []
                self._routes[segment] = message
                return self._write(segment)
            case Wrote(segment):
                self._writing.discard(segment)
                self._volatile.append(segment)
                return self._flush()
            case Flushed(segments):
                self._flushing.difference_update(segments)
                return [*self._tell(segments), *self._flush()]
            case Waited():
                self._clock = False
                return self._flush(now=True)
            case Last(segments):
                self._last[source] = frozenset(segments)
                self._stacks = {s: stack for s, stack in self._stacks.items() if not self._dropped(s)}
                self._routes = {s: route for s, route in self._routes.items() if not self._dropped(s)}
                self._assembly.drop(self._dropped)
                return self._flush()
            case Bye():
                self._awaited.discard(source)
                return []
            case Drain():
                return []  # the reader decides what is still finished
        raise TypeError(f"the reducer has no use for {type(message).__name__} from rank {source}")

    def _dropped(self, segment: int) -> bool:
        """Return whether its reader has said that the segment will not be finished."""
        last = self._last.get(turn(segment, self._readers))
        return last is not None and segment not in last

    def _ended(self, nearly: Collection[int]) -> bool:
        """Return whether all that any reader waits for is durable, or among what nearly is."""
        everyone = len(self._last) == len(self._readers)
        return everyone and all(last <= {*self._durable[reader], *nearly} for reader, last in self._last.items())

    def _tell(self, segments: Sequence[int]) -> list[Send]:
        """Tell each reader which of its segments are durable."""
        durable_of: dict[int, list[int]] = {}
        for segment in segments:
            durable_of.setdefault(turn(segment, self._readers), []).append(segment)
        for reader, durable in durable_of.items():
            self._durable[reader].extend(durable)
        return [Send(reader, Written(tuple(durable))) for reader, durable in durable_of.items()]

    def _write(self, segment: int) -> list[Send]:
        """Have the segment combined and written if all its members are there."""
        route = self._routes.get(segment)
        if route is None and self._routed:
            return []
        members = self._members if route is None else route.members
        stack = self._stacks.get(segment, {})
        if len(stack) < len(members):
            return []
        self._stacks.pop(segment, None)
        self._routes.pop(segment, None)
        self._writing.add(segment)
        ordered = [stack[member] for member in members]
        values, batches = tuple(p.values for p in ordered), tuple(p.batch for p in ordered)
        return [Send(LOCAL, Write(segment, values, batches, tuple(p.bad for p in ordered), route))]

    def _flush(self, *, now: bool = False) -> list[Send]:
        """Make the group durable if it is large, old, or nothing else will come; else set a timer for it."""
        if not self._volatile:
            return []
        ended = self._ended({*self._volatile, *self._flushing})
        if not (now or ended or len(self._volatile) >= self._group):
            if self._clock:
                return []
            self._clock = True
            return [Send(LOCAL, Wait(self._seconds))]
        group = tuple(self._volatile)
        self._volatile.clear()
        self._flushing.update(group)
        return [Send(LOCAL, Flush(group))]
