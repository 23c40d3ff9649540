"""What the benchmark on a GPU looks at: the card while something runs, and a command's own account of what it did."""

from __future__ import annotations

import json
import os
import signal
import statistics
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

Moment = tuple[float, int]
"""When how many rows were done."""
_LOOK_SECONDS = 0.1
_GRACE_SECONDS = 5.0


@dataclass(slots=True)
class Card:
    """What NVML says of the first GPU while something runs; nothing where it is not there.

    looks  moment, busy share, joules so far
    """

    looks: list[tuple[float, float, float]] = field(default_factory=list)
    _over: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def watched(self) -> Iterator[None]:
        watching = threading.Thread(target=self._watch)
        watching.start()
        try:
            yield
        finally:
            self._over.set()
            watching.join()

    def _watch(self) -> None:
        with suppress(Exception):  # no library, no card, or one that does not count
            import pynvml

            pynvml.nvmlInit()
            card = pynvml.nvmlDeviceGetHandleByIndex(0)
            while not self._over.wait(_LOOK_SECONDS):
                busy = pynvml.nvmlDeviceGetUtilizationRates(card).gpu / 100
                self.looks.append((time.time(), busy, pynvml.nvmlDeviceGetTotalEnergyConsumption(card) / 1000))

    def between(self, begin: float, end: float) -> tuple[float | None, float | None]:
        """Return the mean busy share, and joules."""
        looks = [look for look in self.looks if begin <= look[0] <= end]
        if len(looks) < 2:
            return None, None
        joules = (looks[-1][2] - looks[0][2]) * (end - begin) / (looks[-1][0] - looks[0][0])
        return statistics.mean(look[1] for look in looks), joules


def timeline_of(
    command: list[str], folder: Path, log: Path, limit: float, environment: Mapping[str, str]
) -> tuple[list[Moment], str]:
    """Run a command in a folder, for so many seconds at most; return the moments it printed, and why it ended early.

    Lines that are a JSON list are moments; all others go to the log.
    """
    timeline: list[Moment] = []
    cut = threading.Event()
    with log.open("w") as told:
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=told, text=True,
            start_new_session=True,
        )  # fmt: skip
        over = threading.Timer(limit, _end, (process, cut))
        over.start()
        try:
            for line in process.stdout or ():
                if line.startswith("["):
                    with suppress(ValueError):  # half a line
                        moment, rows = json.loads(line)
                        timeline.append((moment, rows))
                        continue
                told.write(line)
            code = process.wait()
        finally:
            over.cancel()
    if cut.is_set():
        return timeline, f"ended after {limit:.0f} s"
    last = [line for line in log.read_text(errors="replace").splitlines() if line.strip()][-1:]
    return timeline, f"exit {code}: {''.join(last)[:300]}" if code else ""


def end_tree(process: int) -> None:
    """End a process and all that it and those it has started did start, in sessions of their own too."""
    for each in _tree(process):
        with suppress(ProcessLookupError):
            os.kill(each, signal.SIGKILL)


def _tree(process: int) -> list[int]:
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has ended meanwhile
            parents[int(path.parent.name)] = int(path.read_text().rpartition(")")[2].split()[1])
    tree = [process]
    for parent in tree:
        tree += [child for child, of in parents.items() if of == parent]
    return tree


def _end(process: subprocess.Popen[str], cut: threading.Event) -> None:
    """End a command and all it has started: asked first, then made to."""
    cut.set()
    tree = _tree(process.pid)  # now: those whose parents have ended are nobody's
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    over = time.monotonic() + _GRACE_SECONDS
    while process.poll() is None and time.monotonic() < over:
        time.sleep(0.05)
    for each in tree:
        with suppress(ProcessLookupError):
            os.kill(each, signal.SIGKILL)
