"""Memory: what this process may use of the host's."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path


def host_memory() -> int:
    """Return the bytes this process may use: the host's, or its control group's where that is less."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        groups = Path("/proc/self/cgroup").read_text()
    except OSError:
        groups = "0::/"
    return min((total, *group_limits(groups, Path("/sys/fs/cgroup"))))


def free_memory() -> int:
    """Return the bytes that nobody uses now, of those this process may use."""
    try:
        free = re.search(r"^MemAvailable:\s*(\d+) kB$", Path("/proc/meminfo").read_text(), re.MULTILINE)
    except OSError:
        free = None
    return min(host_memory(), int(free[1]) << 10) if free else host_memory()


def group_limits(groups: str, root: Path) -> Iterator[int]:
    """Yield the memory limits, in bytes, of some control groups and of those they lie in; of both their versions.

    groups  what /proc/self/cgroup says
    root    folder in which control groups are mounted
    """
    for line in groups.splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        top, name = (root / "memory", "memory.limit_in_bytes") if controllers else (root, "memory.max")
        group = top / path.lstrip("/")
        for folder in (group, *group.parents):
            if folder == top or top in folder.parents:
                with contextlib.suppress(OSError, ValueError):  # no such file here; "max"
                    yield int((folder / name).read_text())
