"""Announce a start that is being checked and has not begun: `cancel` can end it, `status` can show it.

Checking takes seconds to minutes, in which nothing else of the start is on disk.
"""

from __future__ import annotations

import contextlib
import json
import secrets
from dataclasses import asdict
from pathlib import Path
from typing import Any

from hpcens.files import checked, read_as, write_atomically
from hpcens.ownership import READABLE
from hpcens.processes import Process, born

_FOLDER = "announced"


class Announcement:
    """Word of a start to come, in the run directory for as long as a process works on it.

    run   the run directory
    name  random; part of the claim of the start it becomes
    """

    def __init__(self, run: Path, name: str = "") -> None:
        self.name = name or secrets.token_hex(8)
        self._run = run
        self._path = run / _FOLDER / f"{self.name}.json"

    def make(self, process: Process | None = None) -> None:
        """Say that a process, by default this one, works on it. A place that refuses files is for others to report."""
        with contextlib.suppress(OSError):
            self._run.mkdir(READABLE, exist_ok=True)
            self._path.parent.mkdir(READABLE, exist_ok=True)
            write_atomically(self._path, json.dumps(asdict(process or Process.current())), durable=False)

    def hand_to(self, pid: int) -> None:
        """Say that another process of this host works on it from now on."""
        here = Process.current()
        self.make(Process(here.host, here.boot, pid, born(pid)))

    def end_own(self) -> None:
        """Take it back unless it was handed to another process."""
        process = read_as(self._path, _process)
        if process is None or process == Process.current():
            self.end()

    def end(self) -> None:
        """Take it back: the start has begun, or will not. Nothing is left of a start that left nothing else."""
        for remove in (self._path.unlink, self._path.parent.rmdir, self._run.rmdir):
            with contextlib.suppress(OSError):
                remove()


def _process(raw: dict[str, Any]) -> Process:
    return checked(Process(**raw))


def announced(run: Path) -> dict[str, Process]:
    """Return the starts that are being checked: id → the process that does. Those of dead processes are removed."""
    living = {}
    for path in (run / _FOLDER).glob("*.json"):
        process = read_as(path, _process)
        if process is not None and (process.lives or not process.local):
            living[path.stem] = process
        elif process is not None:
            Announcement(run, path.stem).end()
    return living
