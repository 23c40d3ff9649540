"""Files: written whole or not at all, read back, digested."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import secrets
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields
from math import isnan
from pathlib import Path
from typing import Any, TypeVar

from hpcens.errors import UsageError
from hpcens.ownership import READABLE

_PROBE_BYTES = 1 << 16
_CHECKSUM = "checksum"  # key of it in JSON

FULL = (errno.ENOSPC, errno.EDQUOT)
"""Numbers of the system's errors of a disk without room."""

Content = TypeVar("Content")
Record = TypeVar("Record")
# types of fields, as they are written → of the values they take
_PLAIN = {"int": (int,), "float": (float, int), "str": (str,), "bool": (bool,), "Mapping": (dict,), "tuple": (tuple,)}


def require_folder(path: Path) -> None:
    """Refuse a file to be written whose folder is missing: now, not after the work of which it comes.

    Raises UsageError.
    """
    if not path.absolute().parent.is_dir():
        raise UsageError(f"the folder {path.parent} does not exist", "make it, or choose another")


def require_new(path: Path) -> Path:
    """Return a path where there is nothing yet: what was written there may be in use. Raises UsageError."""
    if path.exists():
        raise UsageError(f"{path} exists", "remove it, or write another")
    return path


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


def make_first(path: Path, draft: Path) -> None:
    """Give a file that is whole its name, unless there is a file of that name: the first one stays.

    draft  the file, in the same folder; gone afterwards
    Raises OSError where the file system refuses, FileExistsError where another was first.
    """
    try:
        try:
            os.link(draft, path)
        except FileExistsError:
            raise
        except OSError:  # no hard links here: whoever makes the name owns it, and puts the whole file in its place
            try:
                os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
            except OSError as error:
                if error.errno not in FULL or path.exists():
                    raise
            draft.replace(path)  # takes the name of the draft where the disk has none left
    finally:
        draft.unlink(missing_ok=True)


def claim_folder(folder: Path, contents: Mapping[str, str]) -> bool:
    """Make a folder appear with all that is in it, durably; return whether it was this call that made it.

    A folder that is not empty never takes the place of another: of several claims at once a single one succeeds,
    on every file system, and nobody ever sees a part of it.

    contents  path within the folder → text of the file; no text where the path is that of a folder, ending in /.
              The first is a file with a text that no other claim has.
    Raises OSError where the disk is full or refuses.
    """
    draft = folder.with_name(f".{folder.name}.{secrets.token_hex(8)}")
    try:
        draft.mkdir()  # where its folder is gone, the claim comes too late
        for name, text in contents.items():
            _make(draft / name, text if not name.endswith("/") else None)
        for part in (draft, *(path for path in draft.rglob("*") if path.is_dir())):
            part.chmod(part.stat().st_mode & READABLE)  # others may not write, whatever the umask
        sync_folder(draft)
        draft.rename(folder)
    except OSError as error:
        shutil.rmtree(draft, ignore_errors=True)
        first, text = next(iter(contents.items()))
        with contextlib.suppress(OSError):
            if (folder / first).read_text() == text:  # a file server did it, and was asked again
                sync_folder(folder.parent)
                return True
        taken = error.errno in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOENT) and folder.exists()
        if not taken:
            raise
        return False
    sync_folder(folder.parent)
    return True


def drafts(folder: Path) -> Iterator[tuple[str, Path]]:
    """Yield claims that have not succeeded (yet) in a folder: the name each is for, and where it lies."""
    for path in folder.glob(".*.*"):
        yield path.name[1:].rpartition(".")[0], path


def _make(path: Path, text: str | None) -> None:
    """Make a file, durably, or a folder where there is no text."""
    (path if text is None else path.parent).mkdir(exist_ok=True)
    if text is not None:
        with path.open("w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Make durable which files the folder has, under which names."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def refusing(folder: Path) -> OSError | None:
    """Return the error by which a folder refuses to take a small file more; None where it takes it."""
    try:
        with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
            file.write(bytes(_PROBE_BYTES))
            os.fsync(file.fileno())
    except OSError as error:
        return OSError(error.errno, error.strerror, str(folder))
    return None


def sealed(text: str, *, indent: int | None = 1) -> str:
    """Return the text of a JSON object with a checksum of its values in it, by which `unsealed` sees a flipped bit.

    indent  of each level, in spaces; None: all in one line
    """
    tree = json.loads(text)
    return json.dumps(tree | {_CHECKSUM: _checksum(tree)}, indent=indent)


def unsealed(text: str) -> Any:
    """Return what JSON says, without its checksum; a text that has none is taken as it is: earlier versions wrote it.

    Raises ValueError where the text is no JSON, or its values are not those that the checksum is of.
    """
    tree = json.loads(text)
    if not isinstance(tree, dict) or not tree:
        return tree
    name = _CHECKSUM if _CHECKSUM in tree else next(reversed(tree))  # whose name may be what was hit
    rest = {key: value for key, value in tree.items() if key != name}
    if (tree[name] == _checksum(rest)) != (name == _CHECKSUM):
        raise ValueError(f"its values are not what was written; if you changed them, remove its {_CHECKSUM}")
    return rest if name == _CHECKSUM else tree


def _checksum(tree: Any) -> str:
    return hashlib.sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest()[:16]


def read_json(path: Path) -> Any:
    """Return the file's object; None where it is missing, not (yet) whole, no object, or not what was written."""
    try:
        raw = unsealed(path.read_text())
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


def _open_regular(path: str, flags: int) -> int:
    """Open a regular file: a pipe would be waited for, a device never end."""
    descriptor = os.open(path, flags | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is a folder, a pipe or a device, not a regular file", path)
    return descriptor


def digest_file(path: Path) -> str:
    """Return the SHA-256 of a file's bytes. Raises OSError where it cannot be read, or is a pipe or a device."""
    digest = hashlib.sha256()
    with open(path, "rb", opener=_open_regular) as file:
        while block := file.read(1 << 22):
            digest.update(block)
    return digest.hexdigest()
