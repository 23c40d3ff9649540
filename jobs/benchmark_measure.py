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
    """times: of every look, since the epoch; cpu: seconds used until then, by process; memory: most bytes of PSS."""

    began: float
    ended: float = 0.0
    code: int = 0
    times: list[float] = field(default_factory=list)
    cpu: dict[str, list[float]] = field(default_factory=dict)
    memory: int = 0

    def cpu_between(self, start: float, stop: float, process: int | None = None) -> float:
        """CPU seconds of one process, or of all."""
        of = self.cpu if process is None else [str(process)]
        return sum(self._at(stop, self.cpu[pid]) - self._at(start, self.cpu[pid]) for pid in of)

    def _at(self, moment: float, used: list[float]) -> float:
        """Between two looks in proportion."""
        i = bisect.bisect_left(self.times, moment)
        if i in (0, len(self.times)):
            return used[0] if i == 0 else used[-1]
        part = (moment - self.times[i - 1]) / (self.times[i] - self.times[i - 1])
        return used[i - 1] + part * (used[i] - used[i - 1])


def measure(command: Sequence[str], memory_seconds: float, **where: Any) -> Measured:
    """Run a command to its end. memory_seconds: between two looks at memory, which cost time; 0: none."""
    ctypes.CDLL(None).prctl(_BECOME_SUBREAPER, 1)
    found = Measured(time.time())
    process = subprocess.Popen(command, **where)
    looked = 0.0
    while process.poll() is None:
        tree = list(_descendants(os.getpid()))
        now = {str(pid): seconds for pid in tree if (seconds := _cpu(pid)) is not None}
        for pid in now.keys() | found.cpu.keys():
            before = found.cpu.setdefault(pid, [0.0] * len(found.times))
            before.append(max(now.get(pid, 0.0), before[-1] if before else 0.0))
        found.times.append(time.time())
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


def _cpu(pid: int) -> float | None:
    """CPU seconds of a process's own."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return (int(fields[11]) + int(fields[12])) / _TICK


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
