"""Small disks of their own, for what is to fill up. Mounting needs root."""

import contextlib
import os
import subprocess

import pytest


@contextlib.contextmanager
def small_disk(folder, options):
    """Mount a tmpfs on a folder that is made for it; skips where that is not allowed.

    options  of the mount: size=64k, nr_inodes=40
    """
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"mode=0755,{options}", "tmpfs", str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip(f"no disk can be mounted here: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(path):
    """Take all the room that the disk of a new file has left."""
    with path.open("wb", buffering=0) as file:
        for size in (1 << 16, 4096, 1):
            with contextlib.suppress(OSError):
                while True:
                    file.write(bytes(size))


def fill_names(folder):
    """Take all the names that a disk has left."""
    number = 0
    with contextlib.suppress(OSError):
        while True:
            os.close(os.open(folder / f"name{number}", os.O_CREAT | os.O_EXCL))
            number += 1
    return number
