"""Files: written whole or not at all, read back, digested; and the user's cache folder."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
from collections.abc import Callable
from dataclasses import fields
from math import isnan
from pathlib import Path
from typing import Any, TypeVar

from hpcens.ownership import PRIVATE, own_folder

Content = TypeVar("Content")
Record = TypeVar("Record")
# types of fields, as they are written → of the values they take
_PLAIN = {"int": (int,), "float": (float, int), "str": (str,), "bool": (bool,), "Mapping": (dict,), "tuple": (tuple,)}


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


MALFORMED = (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError)
"""What JSON of the wrong kind raises when it is read: no JSON, other keys, other types, numbers too large, too deep."""


def read_json(path: Path) -> Any:
    """Return the file's object; None where it is missing, not (yet) whole, or no object."""
    try:
        raw = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError):
        return None
    return raw if isinstance(raw, dict) else None


def read_as(path: Path, build: Callable[[dict[str, Any]], Content]) -> Content | None:
    """Return what is built of the file's object; None where it is missing, not (yet) whole, or nothing can be built."""
    raw = read_json(path)
    if raw is None:
        return None
    try:
        return build(raw)
    except MALFORMED:
        return None


def checked(record: Record) -> Record:
    """Return a dataclass that was built of JSON. Raises TypeError or ValueError where a plain field is of another type.

    Numbers are to be numbers, and whole ones to fit 64 bits.
    """
    for entry in fields(record):  # type: ignore[arg-type]
        value, kind = getattr(record, entry.name), str(entry.type)
        types = _PLAIN.get(kind.removesuffix(" | None").partition("[")[0])
        if types is None or (value is None and kind.endswith(" | None")):
            continue
        if type(value) not in types:
            raise TypeError(f"{entry.name} is {type(value).__name__}, not {kind}")
        if (type(value) is float and isnan(value)) or (type(value) is int and abs(value) >= 1 << 63):
            raise ValueError(f"{entry.name} is {value!r:.40}")
    return record


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
