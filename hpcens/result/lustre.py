"""Stripes: on Lustre a file lies on one server unless it is told otherwise, and no writer is faster than that one."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from pathlib import Path

_COUNT = 8
_SIZE = "4M"
_LIMIT_SECONDS = 10.0


def make_striped(path: Path) -> None:
    """Make an empty file that lies on several servers, where `lfs` exists and its folder is not striped by its owner.

    Elsewhere nothing is done: HDF5 makes the file. What is opened for writing afterwards keeps its stripes.
    """
    if shutil.which("lfs") and _lfs("getstripe", "-c", str(path.parent)) in ("0", "1"):
        path.unlink(missing_ok=True)  # a kill while it was made; lfs refuses a file that exists
        _lfs("setstripe", "-c", str(_COUNT), "-S", _SIZE, str(path))


def _lfs(*arguments: str) -> str:
    """Run lfs and return what it prints; nothing where it fails: the folder may not be on Lustre."""
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        return subprocess.run(
            ["lfs", *arguments], capture_output=True, text=True, timeout=_LIMIT_SECONDS, check=True
        ).stdout.strip()
    return ""
