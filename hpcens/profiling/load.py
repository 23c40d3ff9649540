"""How far this machine was busy with other work while something was measured, and whether it is idle now."""

from __future__ import annotations

import os
import time
from pathlib import Path

# Of the cores, what may be taken on average in the last minute where a machine counts as idle.
_IDLE = 0.5
_THREADS = Path("/proc/self/task")


class CoreShare:
    """Tells what part of the time in which this process wanted a core it got one, from its making on."""

    def __init__(self) -> None:
        self._wall, self._cpu, self._waited = time.perf_counter(), time.process_time(), _waited()

    def value(self, cores: int) -> float:
        """Return the part, 0 … 1.

        cores  that the work uses: of one it is seen from the time that passed alone, should the system not tell more
        """
        cpu = time.process_time() - self._cpu
        parts = [1.0]
        if cores == 1 and (wall := time.perf_counter() - self._wall) > 0:
            parts.append(cpu / wall)
        if cpu > 0 and (waited := _waited() - self._waited) > 0:
            parts.append(cpu / (cpu + waited))
        return min(parts)


def _waited() -> float:
    """Return seconds in which threads of this process were to run and had no core; 0 where the system does not say."""
    try:
        texts = [(thread / "schedstat").read_text() for thread in _THREADS.iterdir()]
        return sum(int(text.split()[1]) for text in texts) / 1e9
    except (OSError, ValueError, IndexError):
        return 0.0


def is_idle() -> bool:
    """Return whether most of this machine's cores had nothing to do in the last minute."""
    return os.getloadavg()[0] <= _IDLE * (os.cpu_count() or 1)
