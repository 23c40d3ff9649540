"""Disks that fail: one loses what was not synced and dies at the k-th call, one refuses its calls from the k-th on.

The page cache of a real disk survives a kill.
"""

import os
import random

from hpcens.result.disk import Disk


class Crash(Exception):
    """The machine went down."""


class LossyDisk(Disk):
    """Writes reach the file when it is synced; `crash` keeps a drawn part of the rest, torn at will.

    A file that others wrote (HDF5 does) is whole only once it was synced here: renamed before, it is torn.
    dies_at  the call, counted from 0, that does not happen any more
    """

    def __init__(self, dies_at=None, seed=0):
        self.calls = 0
        self.dies_at = dies_at
        self._pending = {}
        self._paths = {}
        self._unsynced = set()
        self._torn = []
        self._draw = random.Random(seed)

    def _call(self):
        if self.calls == self.dies_at:
            raise Crash
        self.calls += 1

    def open(self, path, *, create=False):
        self._call()
        file = super().open(path, create=create)
        self._pending[file] = []
        self._paths[file] = path
        self._unsynced.add(path)
        return file

    def write(self, file, data, offset):
        self._call()
        self._pending[file].append((bytes(data), offset))
        self._unsynced.add(self._paths[file])

    def read(self, file, size, offset):
        self._call()
        data = bytearray(super().read(file, size, offset))
        for written, at in self._pending[file]:
            begin, end = max(at, offset), min(at + len(written), offset + size)
            if begin < end:
                data.extend(bytes(max(0, end - offset - len(data))))
                data[begin - offset : end - offset] = written[begin - at : end - at]
        return bytes(data)

    def _settle(self, file):
        for data, offset in self._pending[file]:
            super().write(file, data, offset)
        self._pending[file].clear()

    def sync_data(self, file):
        self._call()
        self._settle(file)
        self._unsynced.discard(self._paths[file])

    def sync(self, file):
        self.sync_data(file)

    def rename(self, old, new):
        self._call()
        super().rename(old, new)
        if old in self._unsynced or old not in self._paths.values():
            self._torn.append(new)

    def close(self, file):
        self._call()
        self._settle(file)
        del self._pending[file]
        super().close(file)

    def crash(self):
        """Power is gone: of what was not synced some reaches the disk, in any order, some of it in part."""
        for file, writes in self._pending.items():
            self._draw.shuffle(writes)
            for data, offset in writes:
                fate = self._draw.choice(["lost", "whole", "torn"])
                if fate != "lost":
                    kept = len(data) if fate == "whole" else self._draw.randrange(len(data) + 1)
                    super().write(file, data[:kept], offset)
            super().close(file)
        self._pending.clear()
        for path in self._torn:
            with path.open("rb+") as file:
                file.truncate(self._draw.randrange(path.stat().st_size))


class RefusingDisk(Disk):
    """Every call from the k-th on raises an OSError, as full disks, used up quotas and lost file servers do.

    fails_at  the first call, counted from 0, that is refused; closing is not
    """

    def __init__(self, number, fails_at):
        self.calls = 0
        self._number = number
        self._fails_at = fails_at

    def _call(self):
        self.calls += 1
        if self.calls > self._fails_at:
            raise OSError(self._number, os.strerror(self._number))

    def open(self, path, *, create=False):
        self._call()
        return super().open(path, create=create)

    def write(self, file, data, offset):
        self._call()
        super().write(file, data, offset)

    def read(self, file, size, offset):
        self._call()
        return super().read(file, size, offset)

    def sync_data(self, file):
        self._call()
        super().sync_data(file)

    def sync(self, file):
        self._call()
        super().sync(file)

    def rename(self, old, new):
        self._call()
        super().rename(old, new)

    def sync_folder(self, folder):
        self._call()
        super().sync_folder(folder)
