"""Descriptors: the files that this process has open. A virtual dataset keeps one for each source it was read from."""

from __future__ import annotations

import contextlib
import os
import resource
from collections.abc import Iterable, Set
from pathlib import Path

_FOLDER = Path("/proc/self/fd")


def most_open() -> int:
    """Return how many files this process may have open, as many as the system lets it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def descriptors() -> Set[str]:
    """Return the names of all descriptors of this process; none where they cannot be listed."""
    try:
        return set(os.listdir(_FOLDER))
    except OSError:
        return set()


def without_descriptor(paths: Iterable[Path], before: Set[str]) -> list[Path]:
    """Return those of the files that this process does not have open; none on a system that does not show it.

    before  descriptors that were there before they were to be opened: looked through last
    """
    if not _FOLDER.is_dir():
        return []
    left = {(status.st_dev, status.st_ino): path for path in paths for status in (path.stat(),)}
    now = descriptors()  # of which there are none where no further file can be opened, this folder included
    for name in [*(now - before), *(now & before)]:
        if not left:
            break
        with contextlib.suppress(OSError):  # the one by which the names were listed
            status = os.fstat(int(name))
            left.pop((status.st_dev, status.st_ino), None)
    return list(left.values())
