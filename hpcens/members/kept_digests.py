"""Keep digests of files that are asked for again and again, for as long as the files stay what they were.

Who scores many files with one ensemble checks it before each of them; weights of gigabytes are read once.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from hpcens.files import digest_file

_kept: dict[tuple[str | int, ...], str] | None = None


@contextlib.contextmanager
def digests_kept() -> Iterator[None]:
    """Keep digests within the block."""
    global _kept
    _kept = {}
    try:
        yield
    finally:
        _kept = None


def digest(file: Path) -> str:
    """Return the SHA-256 of a file's bytes, as it was kept where file, size and times are the same.

    Raises OSError where it cannot be read, or is a pipe or a device.
    """
    if _kept is None:
        return digest_file(file)
    stamp = _stamp(file)
    if stamp not in _kept:
        found = digest_file(file)
        if _stamp(file) != stamp:  # it changes at this moment
            return found
        _kept[stamp] = found
    return _kept[stamp]


def _stamp(file: Path) -> tuple[str | int, ...]:
    """Return what changes with the file's content: opened, because that is when NFS asks its server."""
    descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK)
    try:
        found = os.fstat(descriptor)
    finally:
        os.close(descriptor)
    return str(file), found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
