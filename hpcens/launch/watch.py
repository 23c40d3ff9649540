"""The watch: notices the rank that dies first, or falls silent, and can name it.

When one rank is killed the launcher kills the others a moment later, often before anybody here is
awake. The kernel queues the deaths in their order (epoll keeps it, poll does not): the first is the culprit.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from typing import Any

from hpcens.rundir import Epoch, boot_id, born, signatures

_SILENCE = 60.0
_SHORT = 0.01
_AT_ONCE = 1.0


class Watch:
    """Watches the ranks of an epoch that live on this host, `expected` of them."""

    def __init__(self, epoch: Epoch, expected: int, silence: float = _SILENCE) -> None:
        self._epoch = epoch
        self._expected = expected
        self._silence = silence
        self._deaths = select.epoll()
        self._ranks: dict[int, dict[str, Any]] = {}
        self._known: dict[int, int] = {}
        self._beats: dict[str, tuple[bytes, float]] = {}
        self._next_look = 0.0
        self._listened = time.monotonic()
        self._dead: list[int] = []
        self._looked_up: list[dict[str, Any]] = []

    def wait(self, seconds: float) -> None:
        """Sleep, but wake when a rank dies; shortly until all ranks are met."""
        self._meet()
        if len(self._known) < self._expected:
            seconds = min(seconds, _SHORT)
        for descriptor, _ in self._deaths.poll(seconds):
            self._dead.append(self._ranks.pop(descriptor)["rank"])
            self._deaths.unregister(descriptor)
            os.close(descriptor)
        for signature in [s for s in self._looked_up if born(s["pid"]) != s["born"]]:
            self._looked_up.remove(signature)
            self._dead.append(signature["rank"])

    def end(self) -> None:
        """Kill whatever rank still lives: they do not die of the launcher's TERM, which asks them to drain."""
        self._meet()
        for descriptor in self._ranks:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(descriptor, signal.SIGKILL)
            os.close(descriptor)
        self._ranks.clear()
        self._deaths.close()
        for signature in self._looked_up:
            if born(signature["pid"]) == signature["born"]:
                os.kill(signature["pid"], signal.SIGKILL)
        self._looked_up.clear()

    @property
    def first_dead(self) -> dict[str, Any] | None:
        """The signature of the rank that died first."""
        told = {signature["rank"]: signature for signature in signatures(self._epoch)}
        return next((told[rank] for rank in self._dead if rank in told), None)

    def silent(self) -> dict[str, Any] | None:
        """The signature of a rank whose heartbeat has not moved for too long.

        Time that passed unwatched does not count: whoever stopped this process may have stopped the ranks too.
        """
        passed = min(time.monotonic() - self._listened, _AT_ONCE)
        self._listened = time.monotonic()
        for path in self._epoch.ranks.glob("*.beat"):
            beat = path.read_bytes()
            seen, silence = self._beats.get(path.name, (b"", 0.0))
            self._beats[path.name] = beat, silence + passed if beat == seen else 0.0
            if beat == seen and silence > self._silence:
                rank = int(path.stem)
                return next((s for s in signatures(self._epoch) if s["rank"] == rank), {"rank": rank, "role": "?"})
        return None

    def _meet(self) -> None:
        """Open a descriptor for each rank of this host that has signed since the last look."""
        if len(self._known) == self._expected and time.monotonic() < self._next_look:
            return
        self._next_look = time.monotonic() + 0.5
        for signature in signatures(self._epoch):
            rank, pid = signature["rank"], signature["pid"]
            if self._known.get(rank) == pid or signature["boot"] != boot_id():
                continue
            self._known[rank] = pid
            try:
                descriptor = os.pidfd_open(pid)
            except ProcessLookupError:
                continue  # gone before it was met: whether it was the first, nobody saw
            except OSError:  # kernels before 5.3: looked up instead, in no certain order
                self._looked_up.append(signature)
                continue
            self._ranks[descriptor] = signature
            self._deaths.register(descriptor, select.EPOLLIN)
