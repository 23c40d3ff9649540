"""The reducer: gathers the members of a segment, has them combined and written, reports what is durable."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Sequence

from hpcens.messages import (
    LOCAL,
    Bye,
    Drain,
    Flush,
    Flushed,
    Last,
    Message,
    Prediction,
    Send,
    Wait,
    Waited,
    Write,
    Written,
    Wrote,
)


class Reducer:
    """Sans-I/O. A segment is written once all members are there, the stack in member order.

    Written segments are made durable in groups: after `group` of them, after `seconds`, or when
    no others will come. A group is half the reader's window: were it larger than what the window
    still admits, neither would move.
    """

    def __init__(
        self, *, members: Sequence[str], devices: Collection[int], reader: int, window: int, seconds: float
    ) -> None:
        self._members = tuple(members)
        self._awaited = set(devices)
        self._reader = reader
        self._group = max(1, window // 2)
        self._seconds = seconds
        self._stacks: dict[int, dict[str, Prediction]] = {}
        self._writing: set[int] = set()
        self._volatile: list[int] = []
        self._flushing: set[int] = set()
        self._durable: deque[int] = deque(maxlen=window)  # all that the reader may not know of yet
        self._last: frozenset[int] | None = None
        self._clock = False

    @property
    def done(self) -> bool:
        return self._last is not None and not self._awaited and self._last <= set(self._durable)

    def start(self) -> list[Send]:
        return []

    def handle(self, message: Message, source: int) -> list[Send]:
        match message:
            case Prediction(segment, member):
                if self._last is not None and segment not in self._last:
                    return []
                stack = self._stacks.setdefault(segment, {})
                if member in stack or segment in self._writing:
                    raise RuntimeError(f"segment {segment} of member {member} came twice, now from rank {source}")
                stack[member] = message
                return self._write(segment)
            case Wrote(segment):
                self._writing.discard(segment)
                self._volatile.append(segment)
                return self._flush()
            case Flushed(segments):
                self._flushing.difference_update(segments)
                self._durable.extend(segments)
                return [Send(self._reader, Written(segments)), *self._flush()]
            case Waited():
                self._clock = False
                return self._flush(now=True)
            case Last(segments):
                self._last = frozenset(segments)
                for dropped in self._stacks.keys() - self._last:
                    del self._stacks[dropped]
                return self._flush()
            case Bye():
                self._awaited.discard(source)
                return []
            case Drain():
                return []  # the reader decides what is still finished
        raise TypeError(f"the reducer has no use for {type(message).__name__} from rank {source}")

    def _write(self, segment: int) -> list[Send]:
        if len(self._stacks[segment]) < len(self._members):
            return []
        stack = self._stacks.pop(segment)
        self._writing.add(segment)
        ordered = [stack[member] for member in self._members]
        values, batches = tuple(p.values for p in ordered), tuple(p.batch for p in ordered)
        return [Send(LOCAL, Write(segment, values, batches, tuple(p.bad for p in ordered)))]

    def _flush(self, *, now: bool = False) -> list[Send]:
        """Close the group if it is large, old, or nothing else will come; else see that it does not grow old."""
        if not self._volatile:
            return []
        ended = self._last is not None and self._last <= {*self._durable, *self._volatile, *self._flushing}
        if not (now or ended or len(self._volatile) >= self._group):
            if self._clock:
                return []
            self._clock = True
            return [Send(LOCAL, Wait(self._seconds))]
        group = tuple(self._volatile)
        self._volatile.clear()
        self._flushing.update(group)
        return [Send(LOCAL, Flush(group))]
