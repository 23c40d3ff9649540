"""Print what every verb prints in the same words: paths and lines."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path


def show(lines: Iterable[str]) -> None:
    """Print lines."""
    for line in lines:
        print(line)


def short(path: Path) -> str:
    """Return the path as one would type it in the current folder."""
    relative = os.path.relpath(path)
    return relative if len(relative) < len(str(path)) else str(path)
