"""Leftovers: what killed starts of this user left in this host's memory and temporary folder, removed by a later one.

/dev/shm/mpich_*             MPICH's shared memory, where ranks were killed within MPI_Init
TMP/hydra_hwloc_xmlfile_*    the host's shape, where mpiexec was killed
TMP/hpcens-WHERE-PID-BORN-*  a folder of a process's own
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from hpcens.processes import boot_id, born

_MEMORY = Path("/dev/shm")
_FOLDER = re.compile(r"hpcens-(\w+)-(\d+)-(\d+)-")
_LAUNCHERS = re.compile(r"mpiexec|mpirun|hydra_")
# Nothing younger is taken for left: it may be about to be mapped. Longer where other processes may be out of sight.
_YOUNG_SECONDS = 10.0
_YOUNG_UNSEEN_SECONDS = 120.0
_ALL_PROCESSES = "pid:[4026531836]"  # the namespace of a host's own processes


def temporary_prefix() -> str:
    """Return how the name of a temporary folder of this process begins, so that it can be told when that has ended."""
    return f"hpcens-{_place()}-{os.getpid()}-{born(os.getpid())}-"


def sweep() -> None:
    """Remove what processes of this user have left that ended. What cannot be removed, or told, stays."""
    temporary = Path(tempfile.gettempdir())
    for path in (*_unmapped(list(_own_and_old(_MEMORY, "mpich_*"))), *_topologies(temporary)):
        with contextlib.suppress(OSError):
            path.unlink()
    for path in _folders(temporary):
        shutil.rmtree(path, ignore_errors=True)


def _place() -> str:
    """Where process ids mean what they mean here: this boot of this host, this namespace."""
    return f"{boot_id()[:8]}{''.join(re.findall(r'[0-9]+', _namespace()))}"


def _namespace() -> str:
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


def _unmapped(files: list[Path]) -> list[Path]:
    """Those of the files in memory that no process of the user's that can be seen has mapped."""
    mapped = _mapped() if files else set()
    return [path for path in files if path not in mapped]


def _topologies(temporary: Path) -> Iterator[Path]:
    """Files that mpiexec passes to its ranks, where none of the user's that lives can have made them."""
    files = list(_own_and_old(temporary, "hydra_hwloc_xmlfile_*"))
    oldest = min(_launchers(), default=time.time()) if files else 0.0
    for path in files:
        with contextlib.suppress(OSError):
            if path.stat().st_mtime < oldest:
                yield path


def _folders(temporary: Path) -> Iterator[Path]:
    place = _place()
    for path in temporary.glob("hpcens-*-*-*-*"):
        match = _FOLDER.match(path.name)
        if match and match[1] == place and born(int(match[2])) != int(match[3]) and _is_own(path):
            yield path


def _own_and_old(folder: Path, pattern: str) -> Iterator[Path]:
    young = _YOUNG_SECONDS if _namespace() == _ALL_PROCESSES else _YOUNG_UNSEEN_SECONDS
    for path in folder.glob(pattern):
        with contextlib.suppress(OSError):
            if _is_own(path) and path.lstat().st_mtime < time.time() - young:
                yield path


def _is_own(path: Path) -> bool:
    try:
        return path.lstat().st_uid == os.geteuid()
    except OSError:
        return False


def _mapped() -> set[Path]:
    """Files in memory that any process of this user has mapped."""
    found = set()
    for maps in Path("/proc").glob("[0-9]*/maps"):
        with contextlib.suppress(OSError):  # another user's, or it has ended
            lines = (line for line in maps.read_text(errors="replace").splitlines() if f" {_MEMORY}/" in line)
            found |= {Path(line.split(maxsplit=5)[5]) for line in lines}
    return found


def _launchers() -> Iterator[float]:
    """When each of this user's launchers of ranks was born, in seconds since 1970."""
    boot = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if folder.stat().st_uid == os.geteuid() and _LAUNCHERS.match((folder / "comm").read_text()):
                yield boot + born(int(folder.name)) / os.sysconf("SC_CLK_TCK") - 1
