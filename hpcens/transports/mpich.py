"""What MPICH needs so that a world forms on every start: a network that pmi2 has room for, and no leftovers.

Over UCX, MPICH 5.0 hands 4 KiB a node to the others: its address of 200 bytes and more, and what lies behind it in
memory. Slurm's pmi2 cuts off what does not fit a line of 1 KiB, which happens by chance, the more often the more nodes:
MPI_Init dies then. Over libfabric an address has 16 bytes.

The memory that the ranks of a node share has a name, which may outlive them.
MPICH names it after the job and its step, and takes the name away when MPI ends in order. Where ranks were killed the
name stays, with the dead world's content behind it. A job that is requeued has the same number again: its ranks would
find the old memory on such a node, and hang or crash in MPI_Init (seen with MPICH 5.0). So the name is taken away as
soon as all ranks have found the memory, and one that is older than the step is removed before MPI starts.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator, Mapping, MutableMapping
from pathlib import Path

from hpcens.processes import born

_MEMORY = Path("/dev/shm")
# by which users choose a network, MPICH's present name of it first
_NETWORKS = ("MPIR_CVAR_CH4_NETMOD", "MPICH_CH4_NETMOD", "MPIR_PARAM_CH4_NETMOD")


def take_short_addresses(environment: MutableMapping[str, str]) -> None:
    """Have MPICH take libfabric where it brought both networks and Slurm's pmi2 is to carry addresses between nodes.

    Only where starts over UCX have died: over libfabric MPI_Init has hung on nodes with more ranks than cores.

    environment  of this process, which has loaded MPI and not begun it; what the user chose stays
    """
    if "PMI_FD" not in environment or int(environment.get("SLURM_STEP_NUM_NODES") or 1) == 1:
        return
    with contextlib.suppress(OSError):  # no /proc
        both = all(any(f"/{name}" in path for path in _libraries()) for name in ("libucp", "libfabric"))
        if both and not any(name in environment for name in _NETWORKS):
            environment[_NETWORKS[0]] = "ofi"


def unlink_shared_memory() -> None:
    """Remove the names of the shared memory this process has mapped; only once all ranks have mapped it."""
    with contextlib.suppress(OSError):  # no /proc: the names stay until MPI ends
        maps = Path("/proc/self/maps").read_text().splitlines()
        for path in {line.split()[-1] for line in maps if f" {_MEMORY}/mpich_" in line and "(deleted)" not in line}:
            _remove(Path(path))


def library_from_wheel() -> bool:
    """Return whether this process's MPI library is one of Python's packages, not the machine's own."""
    return any(path.startswith(sys.prefix) for path in _libraries() if "/libmpi" in path)


def _libraries() -> set[str]:
    """Return the paths of what this process has mapped."""
    return {line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines()}


def remove_leftovers(environment: Mapping[str, str], step: int) -> None:
    """Remove what an earlier start of this very step left on this node; outside of Slurm do nothing.

    step  process id of the step's daemon: what it started is younger than itself
    """
    if "SLURM_JOB_ID" in environment and "SLURM_STEP_ID" in environment:
        since = _wall_clock(born(step))
        for path in shared_memory_of(environment["SLURM_JOB_ID"], environment["SLURM_STEP_ID"]):
            with contextlib.suppress(OSError):
                if path.stat().st_ctime < since - 1:
                    _remove(path)


def shared_memory_of(job: str, step: str) -> Iterator[Path]:
    """List the shared memory of a step's ranks on this host, as MPICH names it."""
    return _MEMORY.glob(f"mpich_*_{fnv1a(f'{job}.{step}'):x}_*")


def fnv1a(text: str) -> int:
    """Hash a text by FNV-1a, 32 bits: MPICH's number of a world, from the name that Slurm's pmi2 gives it: JOB.STEP."""
    value = 2166136261
    for byte in text.encode():
        value = (value ^ byte) * 16777619 & 0xFFFFFFFF
    return value


def _wall_clock(ticks: int) -> float:
    """Convert clock ticks since boot to seconds since 1970; 0 for a process that does not live."""
    if not ticks:
        return 0.0
    return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME) + ticks / os.sysconf("SC_CLK_TCK")


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):  # another rank was first, or it is somebody else's
        path.unlink()
