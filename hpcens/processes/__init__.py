"""Processes: which node this is, whether a process still lives, and how one dies with its parent."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
from dataclasses import dataclass
from pathlib import Path

_SET_DEATH_SIGNAL = 1


def die_with(parent: int) -> None:
    """Ask the kernel to kill this process when its parent ends: nothing is left behind."""
    ctypes.CDLL(None).prctl(_SET_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)


def node() -> str:
    """Name the node this process is on; virtual nodes of one host are told apart by Slurm's name for them."""
    return os.environ.get("SLURMD_NODENAME") or socket.gethostname()


def boot_id() -> str:
    """Tell hosts apart, and a host from itself before a reboot."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return socket.gethostname()


def born(pid: int) -> int:
    """Return a process's start time in clock ticks since boot, 0 where it does not live: tells reused ids apart."""
    try:
        state, *rest = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return 0 if state in "ZX" else int(rest[18])


def is_stopped(pid: int) -> bool:
    """Whether a process of this host was stopped, by SIGSTOP or by whoever traces it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in ("T", "t")
    except (OSError, IndexError):
        return False


@dataclass(frozen=True, slots=True)
class Process:
    """A process, described so that others can tell whether it lives.

    host  name of its host
    boot  the host's `boot_id`
    pid   its process id
    born  when it was `born`
    """

    host: str
    boot: str
    pid: int
    born: int

    @staticmethod
    def current() -> Process:
        """Describe this process."""
        return Process(socket.gethostname(), boot_id(), os.getpid(), born(os.getpid()))

    @property
    def local(self) -> bool:
        """Whether it is, or was, a process of this host since its last boot."""
        return self.boot == boot_id()

    @property
    def lives(self) -> bool:
        """Whether it is a process of this host that has not ended."""
        return self.local and born(self.pid) == self.born
