"""The disk: the few calls durable results are made of, so that a double can lose what was not synced."""

from __future__ import annotations

import os
from pathlib import Path


class Disk:
    """Files by descriptor, positions explicit. All calls raise OSError as `os` does."""

    def open(self, path: Path, *, create: bool = False) -> int:
        """Open for reading and writing; `create` refuses a file that exists."""
        return os.open(path, os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT | os.O_EXCL if create else 0), 0o666)

    def close(self, file: int) -> None:
        os.close(file)

    def write(self, file: int, data: bytes | memoryview, offset: int) -> None:
        """Write all of it at the offset."""
        view = memoryview(data)
        while view:
            written = os.pwrite(file, view, offset)
            view, offset = view[written:], offset + written

    def read(self, file: int, size: int, offset: int) -> bytes:
        """Up to `size` bytes; fewer only at the end of the file."""
        parts = []
        while size and (part := os.pread(file, size, offset)):
            parts.append(part)
            size, offset = size - len(part), offset + len(part)
        return b"".join(parts)

    def sync_data(self, file: int) -> None:
        os.fdatasync(file)

    def sync(self, file: int) -> None:
        os.fsync(file)

    def rename(self, old: Path, new: Path) -> None:
        """Replace `new` by `old`, durably."""
        os.replace(old, new)
        self.sync_folder(new.parent)
        if old.parent != new.parent:
            self.sync_folder(old.parent)

    def sync_folder(self, folder: Path) -> None:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
