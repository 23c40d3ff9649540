"""Print what every verb prints in the same words: paths and lines."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from pathlib import Path

from hpcens.shell import printable


def show(lines: Iterable[str]) -> None:
    """Print lines."""
    for line in lines:
        say(line)


def say(text: str, *, to_stderr: bool = False) -> None:
    """Print a text at once. Names in it may be anybody's: what a terminal would obey is shown escaped."""
    print(printable(text), file=sys.stderr if to_stderr else sys.stdout, flush=True)


def short(path: Path) -> str:
    """Return the path as one would type it in the current folder."""
    relative = os.path.relpath(path)
    return relative if len(relative) < len(str(path)) else str(path)
