"""Ownership: only files of one's own are trusted, as ssh trusts only keys of one's own.

Whoever may write to a run directory could name other code for its next start, and whoever may write to the cache
could plant other networks: both are read back as one's own words.
"""

from __future__ import annotations

import os
import pwd
import stat
from pathlib import Path

from hpcens.errors import UsageError
from hpcens.shell import quoted

PRIVATE = 0o700
READABLE = 0o755
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


def own_folder(path: Path, mode: int, instead: str) -> None:
    """Make a folder, or see that the one that is there is one's own.

    mode     of a new one, whatever the umask would add
    instead  what to do where it is another's, in words
    Raises UsageError where another user owns it or may write to it, OSError where it cannot be made.
    """
    try:
        path.mkdir(mode, exist_ok=True)
    except FileExistsError:
        raise UsageError(
            f"{path} is in the way: it is no folder, or leads nowhere", f"{instead}, or remove it"
        ) from None
    refuse_others(path, instead)


def refuse_others(path: Path, instead: str) -> None:
    """Raise UsageError where another user owns a file or folder, or a link to it, or may write to it."""
    for status in (path.lstat(), path.stat()):
        if status.st_uid not in (os.geteuid(), 0):
            raise UsageError(
                f"{path} belongs to {_name(status.st_uid)}, who could put other files in the place of yours",
                f"{instead}; or, if you trust what is there: chown -R {_name(os.geteuid())} {quoted(path)}",
            )
        if not stat.S_ISLNK(status.st_mode) and status.st_mode & _OTHERS_WRITE:
            raise UsageError(
                f"others than you may write to {path} (mode {stat.S_IMODE(status.st_mode):o})",
                f"chmod go-w {quoted(path)}; if you do not trust what is there, {instead}",
            )


def _name(user: int) -> str:
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return f"user {user}"
