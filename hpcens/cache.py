"""The user's cache folder, and one that a site may share: all that lies there can be made again."""

from __future__ import annotations

import contextlib
import functools
import os
import re
import secrets
import shutil
import sys
from pathlib import Path

from hpcens.ownership import PRIVATE, own_folder

# Names of files in the cache that are being written, as `keep_in_cache` and earlier versions choose them.
_DRAFT = re.compile(r"\..+\.\d+\.[0-9a-f]{8}$|\d+-[0-9a-f]{8}-.")
_OLD_SECONDS = 3600.0


def cache_folder() -> Path:
    """Return $HPCENS_CACHE, else the user's cache folder: profiles, trials and prepared networks lie in it.

    It is made where it is missing, for its user alone. Raises UsageError where another user owns it or may write to it.
    """
    root = os.environ.get("HPCENS_CACHE") or os.path.join(
        os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "hpcens"
    )
    folder = Path(root)
    with contextlib.suppress(OSError):  # whoever writes to it says what is wrong
        folder.parent.mkdir(parents=True, exist_ok=True)
        if folder.is_dir() or not folder.exists():
            own_folder(folder, PRIVATE, "set HPCENS_CACHE to a folder of your own")
    return folder


@functools.cache
def shared_cache() -> Path | None:
    """Return $HPCENS_SHARED_CACHE, a cache that a site has filled for all: read, and never written to; None without.

    Whoever owns it is trusted. Where others may write to it there is a warning, and it is not read.
    """
    root = os.environ.get("HPCENS_SHARED_CACHE")
    if not root or not (folder := Path(root)).is_dir():
        return None
    owner = folder.stat().st_uid
    for part in (folder, folder / "prepared", folder / "profiles"):
        if part.exists() and (part.stat().st_uid not in (owner, 0) or part.stat().st_mode & 0o022):
            why = "others than its owner own it or may write to it"
            print(f"hpcens: warning: HPCENS_SHARED_CACHE is not read: {part}: {why}", file=sys.stderr, flush=True)
            return None
    return folder


def keep_in_cache(path: Path, content: str | Path) -> bool:
    """Keep a file in the cache, whole or not at all; return whether it is there. What others left half is swept.

    content  text, or a file to copy
    Where the cache is full or refuses, a warning says so, once a process: all of it can be made again.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            if isinstance(content, str):
                draft.write_text(content)
            else:
                shutil.copyfile(content, draft)
            _sweep(draft)
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)
    except OSError as error:
        _warn_of_cache(str(cache_folder()), error.strerror or str(error))
        return False
    return True


def _sweep(fresh: Path) -> None:
    """Remove drafts that are much older than a fresh one in the same folder, both by the file server's clock."""
    now = fresh.stat().st_mtime
    for path in fresh.parent.iterdir():
        if _DRAFT.match(path.name):
            with contextlib.suppress(OSError):  # another was as quick
                if path.stat().st_mtime < now - _OLD_SECONDS:
                    path.unlink()


@functools.cache
def _warn_of_cache(folder: str, why: str) -> None:
    print(
        f"hpcens: warning: the cache {folder} keeps nothing ({why}): what is measured and prepared is so again by the"
        " next start; set HPCENS_CACHE to a folder that can be written",
        file=sys.stderr,
        flush=True,
    )
