"""Files: written whole or not at all, read back, digested; and the user's cache folder."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
from pathlib import Path
from typing import Any

from hpcens.ownership import PRIVATE, own_folder


def write_atomically(path: Path, text: str, *, durable: bool = True) -> None:
    """Replace the file by a whole new one.

    durable  sync it first; a cache, which can be made again, goes without
    Raises OSError where the folder is missing, full or refuses.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    try:
        with open(temporary, "w", opener=_create) as file:
            file.write(text)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def read_json(path: Path) -> Any:
    """Return the file's content; None where it is missing or not (yet) whole."""
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return None


def _create(path: str, flags: int) -> int:
    """Open a file that is not there yet, and is not what a link names; none but its owner may write to it."""
    return os.open(path, flags | os.O_EXCL | os.O_NOFOLLOW, 0o644)


def digest_file(path: Path) -> str:
    """Return the SHA-256 of a file's bytes. Raises OSError where it cannot be read."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 22):
            digest.update(block)
    return digest.hexdigest()


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
        own_folder(folder, PRIVATE, "set HPCENS_CACHE to a folder of your own")
    return folder
