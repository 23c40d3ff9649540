"""The disk: the few calls durable results are made of, so that a double can lose what was not synced."""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections.abc import Iterator
from math import inf
from pathlib import Path

from hpcens.errors import refusal
from hpcens.files import refusing, sync_folder

SPEED_BYTES = 32 << 20
"""Writing fewer is not worth measuring."""
_SYNCS = 3
_PIECE = bytes(4 << 20)


class Disk:
    """Files by descriptor, positions explicit. All calls raise OSError as `os` does."""

    def open(self, path: Path, *, create: bool = False) -> int:
        """Open for reading and writing; `create` refuses a file that exists."""
        return os.open(
            path, os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW if create else 0), 0o644
        )

    def close(self, file: int) -> None:
        """Close a file; what was not synced may still be lost."""
        os.close(file)

    def write(self, file: int, data: bytes | memoryview, offset: int) -> None:
        """Write all of it at the offset."""
        view = memoryview(data)
        while view:
            written = os.pwrite(file, view, offset)
            view, offset = view[written:], offset + written

    def read(self, file: int, size: int, offset: int) -> bytes:
        """Read `size` bytes; fewer only at the end of the file."""
        parts = []
        while size and (part := os.pread(file, size, offset)):
            parts.append(part)
            size, offset = size - len(part), offset + len(part)
        return b"".join(parts)

    def sync_data(self, file: int) -> None:
        """Return once the file's data are durable, and as much of its metadata as reading them needs."""
        os.fdatasync(file)

    def sync(self, file: int) -> None:
        """Return once the file is durable with all of its metadata."""
        os.fsync(file)

    def rename(self, old: Path, new: Path) -> None:
        """Replace `new` by `old`, durably."""
        os.replace(old, new)
        self.sync_folder(new.parent)
        if old.parent != new.parent:
            self.sync_folder(old.parent)

    def sync_folder(self, folder: Path) -> None:
        """Return once the names in a folder are durable."""
        sync_folder(folder)


@contextlib.contextmanager
def made_by_hdf5(path: Path) -> Iterator[None]:
    """Have what HDF5 raises while it makes a file name the disk where that is to blame, and leave no part of the file.

    Of a full disk HDF5 may name a consequence alone, as that something could not be flushed.
    """
    try:
        yield
    except (OSError, RuntimeError) as error:
        number, _ = refusal(error)
        refused = None if number else refusing(path.parent)  # before the file makes room
        with contextlib.suppress(OSError):
            path.unlink()
        if refused is not None:
            raise refused from error
        raise


def sync_seconds(folder: Path) -> float | None:
    """Measure the seconds that a sync of next to nothing takes on the disk of a folder; None where it refuses."""
    with contextlib.suppress(OSError), tempfile.TemporaryFile(dir=folder, buffering=0) as file:
        seconds = []
        for _ in range(_SYNCS):
            file.write(b"\0")
            start = time.perf_counter()
            os.fdatasync(file.fileno())
            seconds.append(time.perf_counter() - start)
        return sorted(seconds)[_SYNCS // 2]
    return None


def writing_speed(folder: Path, size: int) -> float:
    """Measure the bytes/s that become durable on the disk of a folder, in a file without a name.

    size  bytes that will be written
    Infinite where there is no need to know, since these are few, or where the disk refuses: that is reported once
    there is a result to write.
    """
    if size < SPEED_BYTES:
        return inf
    with contextlib.suppress(OSError), tempfile.TemporaryFile(dir=folder, buffering=0) as file:
        seconds = []
        for pieces in (1, SPEED_BYTES // len(_PIECE)):  # the difference is free of what a sync takes by itself
            start = time.perf_counter()
            for _ in range(pieces):
                file.write(_PIECE)
            os.fdatasync(file.fileno())
            seconds.append(time.perf_counter() - start)
        return (SPEED_BYTES - len(_PIECE)) / max(1e-6, seconds[1] - seconds[0])
    return inf
