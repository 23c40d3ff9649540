"""Keep a GPU's rank to the cores that are near its GPU: rows from another NUMA domain's memory come slower."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

_PCI = Path("/sys/bus/pci/devices")
_THREADS = Path("/proc/self/task")


def keep_near(bus: str, pci: Path = _PCI) -> tuple[int, ...]:
    """Keep this process, and the threads it starts, to those of its cores that are near a GPU; return them.

    None where the system does not say which are near, where all of its are, or where none is.

    bus  where the GPU is on the PCI bus, as the driver writes it; empty: not known
    pci  folder of the system's PCI devices
    """
    near, own = set(_cores(bus, pci)), os.sched_getaffinity(0)
    if not near & own or near >= own:
        return ()
    for thread in _THREADS.iterdir():
        with contextlib.suppress(OSError, ValueError):  # it may have ended
            os.sched_setaffinity(int(thread.name), near & own)
    return tuple(sorted(near & own))


def _cores(bus: str, pci: Path) -> Iterator[int]:
    """Yield the cores of the NUMA domain of a PCI device; none where it is not known."""
    domain, _, rest = bus.lower().partition(":")
    device = pci / f"{domain[-4:]}:{rest}"  # the driver writes domains with eight digits, the system with four
    with contextlib.suppress(OSError, ValueError):
        if bus and int((device / "numa_node").read_text()) >= 0:
            for part in (device / "local_cpulist").read_text().strip().split(","):
                first, _, last = part.partition("-")
                yield from range(int(first), int(last or first) + 1)
