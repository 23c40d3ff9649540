"""Loading: how long a member takes to be loaded, and what it adds to the memory of a process that has loaded others."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from dataclasses import dataclass

from hpcens.engine import Engine, Hardware
from hpcens.members import Forward

# A load that took no longer is repeated where it left more than the member's own numbers: the first in a process
# brings along what stays for all, modules that are imported, threads, room of the allocator.
_QUICK = 1.0
_SMALL = 1 << 20


class Contexts:
    """What a process that measures takes by itself, whatever members it has measured before.

    torch.jit keeps the weights of what was traced and frozen until the process ends, on CPUs: what is there before a
    member is loaded grows with each that was measured, though a run loads each once.
    """

    def __init__(self) -> None:
        self._bytes: int | None = None

    def imported(self, count: int) -> None:
        """Add bytes of code that was imported."""
        if self._bytes is not None:
            self._bytes += max(0, count)

    def of(self, hardware: Hardware, before: int) -> int:
        """Return the bytes of the process without members. before: its bytes before a member is loaded."""
        if hardware.name != "CPU":
            return before
        self._bytes = before if self._bytes is None else self._bytes
        return min(before, self._bytes)


@dataclass(slots=True)
class Loaded:
    """A member that was loaded and hosted.

    forward  None where it does not fit the memory of the device
    context  bytes of the process without members
    weights  bytes that the member adds
    seconds  that it took
    """

    forward: Forward | None
    context: int
    weights: int = 0
    seconds: float = 0.0


def load_and_weigh(
    engine: Engine,
    make: Callable[[], Forward | None],
    name: str,
    batch: int,
    *,
    packaged: bool,
    contexts: Contexts,
) -> Loaded:
    """Load a member and host it, and again where the first load took what is none of the member's.

    make      loads the member for batches of that size; None where it does not fit
    packaged  whether the first load makes a package, which later ones, and those of a run, find
    contexts  of the process
    """
    loaded = _loaded(engine, make, name, batch)
    if loaded.forward is not None:
        own, before, first = _own_bytes(loaded.forward), loaded.context, loaded.seconds
        if packaged or (loaded.weights > own + own // 4 + _SMALL and first < _QUICK):
            loaded.forward = None
            engine.clear()
            loaded = _loaded(engine, make, name, batch)
            if not packaged:
                loaded.seconds = first
                contexts.imported(loaded.context - before)
    loaded.context = contexts.of(engine.hardware, loaded.context)
    return loaded


def _loaded(engine: Engine, make: Callable[[], Forward | None], name: str, batch: int) -> Loaded:
    hardware = engine.hardware
    gc.collect()  # of members before it, whose modules and graphs point at each other
    hardware.release()
    context = hardware.resident()
    began = time.perf_counter()
    forward = make()
    if forward is None:
        return Loaded(None, context)
    engine.host(name, forward, batch=batch)
    seconds = time.perf_counter() - began
    hardware.release()
    return Loaded(forward, context, max(hardware.resident() - context, _own_bytes(forward)), seconds)


def _own_bytes(forward: Forward) -> int:
    return sum(numbers.nbytes for numbers in forward.state_dict().values())
