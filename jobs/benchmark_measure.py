"""Measure a command: its time, and the CPU time and memory of it and of all it starts, while it runs.

python jobs/benchmark_measure.py [--memory SECONDS] -- COMMAND …      prints one line of JSON, the last on its output

CPU time is that of every process of the tree, read four times a second, so that it is known between any two moments;
memory is their PSS together (pages that several share are counted once).
"""

from __future__ import annotations

import argparse
import bisect
import ctypes
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

_LOOK_SECONDS = 0.25
_TICK = os.sysconf("SC_CLK_TCK")
_BECOME_SUBREAPER = 36  # of prctl: whoever loses its parent becomes a child of this process, and stays in its tree


@dataclass(slots=True)
class Measured:
    """times: seconds since the epoch, of every look; cpu: seconds used until then; memory: most bytes of PSS seen."""

    began: float
    ended: float = 0.0
    code: int = 0
    times: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    memory: int = 0
    processes: int = 0

    def cpu_between(self, start: float, stop: float) -> float:
        return self._at(stop) - self._at(start)

    def _at(self, moment: float) -> float:
        """Between two looks in proportion."""
        i = bisect.bisect_left(self.times, moment)
        if i in (0, len(self.times)):
            return self.cpu[0] if i == 0 else self.cpu[-1]
        part = (moment - self.times[i - 1]) / (self.times[i] - self.times[i - 1])
        return self.cpu[i - 1] + part * (self.cpu[i] - self.cpu[i - 1])


def measure(command: Sequence[str], memory_seconds: float, **where: Any) -> Measured:
    """Run a command to its end. memory_seconds: between two looks at memory, which cost time; 0: none."""
    ctypes.CDLL(None).prctl(_BECOME_SUBREAPER, 1)
    found = Measured(time.time())
    process = subprocess.Popen(command, **where)
    used: dict[tuple[int, int], float] = {}
    looked = 0.0
    while process.poll() is None:
        tree = list(_descendants(os.getpid()))
        found.processes = max(found.processes, len(tree))
        for pid in tree:
            if (status := _status(pid)) is not None:
                used[pid, status[0]] = status[1]
        found.times.append(time.time())
        found.cpu.append(sum(used.values()))
        if memory_seconds and time.time() - looked > memory_seconds:
            looked = time.time()
            found.memory = max(found.memory, sum(map(_pss, tree)))
        time.sleep(_LOOK_SECONDS)
    found.ended, found.code = time.time(), process.returncode
    return found


def _descendants(pid: int) -> Iterator[int]:
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children = task.read_text().split()
        except OSError:
            continue
        for child in map(int, children):
            yield child
            yield from _descendants(child)


def _status(pid: int) -> tuple[int, float] | None:
    """When a process began, by which its number is told from another's, and the CPU seconds of its own."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return int(fields[19]), (int(fields[11]) + int(fields[12])) / _TICK


def _pss(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) << 10 for line in lines if line.startswith("Pss:"))


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure a command, as JSON.")
    parser.add_argument("--memory", type=float, default=0.0, metavar="SECONDS", help="look at memory so often")
    parser.add_argument("command", nargs="+")
    options = parser.parse_args()
    found = measure(options.command, options.memory, stdout=sys.stderr)
    print(json.dumps(asdict(found)))
    return found.code


if __name__ == "__main__":
    sys.exit(main())
