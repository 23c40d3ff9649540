"""The ranks of a world that scores many files, started for the first and again where one has ended them."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

from hpcens.entry import command
from hpcens.launch import local
from hpcens.processes.leftovers import temporary_prefix
from hpcens.runs import Epoch
from hpcens.worlds.rank import give_order

_GRACE_SECONDS = 5.0


class UnitRanks:
    """Ranks of this host that live one start after another.

    expected  how many; log: the file that they write to
    """

    def __init__(self, expected: int, log: Path) -> None:
        self._expected = expected
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None
        self._folder: Path | None = None
        self._given = 0

    def give(self, epoch: Epoch) -> None:
        """Have the ranks live a start."""
        if self._process is not None and self._process.poll() is not None:
            self.end()
        self._order(epoch)
        if self._process is None:
            words = command("hpcens.worlds.rank", str(self._folder), str(self._expected))
            self._process = local.launch([*local.mpiexec(), "-n", str(self._expected), *words], self._log)

    def _order(self, epoch: Epoch | None) -> None:
        if self._folder is None:
            self._folder, self._given = Path(tempfile.mkdtemp(prefix=temporary_prefix())), 0
        self._given += 1
        give_order(self._folder, self._given, epoch)

    def ended(self) -> int | None:
        """Return the code with which the launcher has ended; None while it lives."""
        return self._process.poll() if self._process is not None else None

    def kill(self) -> None:
        """End all ranks at once."""
        if self._process is not None and self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def end(self, seconds: float = _GRACE_SECONDS) -> None:
        """Let the ranks leave, and kill those that have not after so many seconds."""
        if self._process is not None and self._process.poll() is None and self._folder is not None:
            self._order(None)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(seconds)
        self.kill()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
        self._process = self._folder = None
