"""Kept files: what a runtime took long to prepare, with an index beside it that holds the digest of every file.

    NAME.json                     the index: its format, and of each file its name, bytes and SHA-256
    NAME-0123456789abcdef.SUFFIX  a file, named by its digest: ranks that prepare the same at once never mix theirs

Neither torch nor OpenVINO checks the numbers it reads: a flipped bit would be wrong predictions for ever after.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from hpcens.cache import keep_in_cache, shared_cache
from hpcens.files import MALFORMED, digest_file
from hpcens.processes.leftovers import temporary_prefix

FORMAT = 1
_DEFAULT_BYTES = 20 << 30
_NAMED_BY = 16  # hexadecimal digits of a digest


def intact(files: Sequence[Path]) -> tuple[Path, ...] | None:
    """Return where the files lie, each as it was written; None where they have to be prepared (again).

    files  as the runtime names them, the first of them the one whose name the index has
    Warns where there are files that are not what was written, or have no digest; and removes them. Those of the site's
    cache are taken where there are none of one's own.
    """
    found = _intact(files)
    if found is not None:
        with contextlib.suppress(OSError):
            os.utime(_index(files[0]))  # used now: what was not for longest goes first
    elif (shared := shared_cache()) is not None:
        found = _intact([shared / files[0].parent.name / file.name for file in files], own=False)
    return found


def _intact(files: Sequence[Path], *, own: bool = True) -> tuple[Path, ...] | None:
    """Return where the files of one cache lie; see `intact`. own: else they are the site's, and nothing is removed."""
    index = _index(files[0])
    try:
        raw = json.loads(index.read_text())
        if raw["format"] != FORMAT:
            return None
        entries = [(index.with_name(str(entry["file"])), entry["bytes"], entry["sha256"]) for entry in raw["files"]]
        paths = tuple(path for path, _, _ in entries)
        if [path.suffix for path in paths] != [file.suffix for file in files]:
            raise ValueError("files of another runtime")
        sizes = [path.stat().st_size for path in paths]
        if sizes == [size for _, size, _ in entries] and all(digest_file(path) == sha for path, _, sha in entries):
            return paths
        _remove(own, "does not hold the bytes that were written", index, *paths)
    except FileNotFoundError:
        if index.exists():
            _remove(own, "names files that are not there", index)
        elif files[0].exists():
            _remove(own, "has no digest beside it", *reversed(files))
    except (OSError, *MALFORMED):
        strays = (path for file in files for path in index.parent.glob(f"{index.stem}-*{file.suffix}"))
        _remove(own, "is damaged", *strays, index)
    return None


def size_limit() -> int:
    """Return how many bytes of prepared networks are kept: $HPCENS_CACHE_SIZE, as 50GiB, else 20 GiB."""
    text = os.environ.get("HPCENS_CACHE_SIZE", "")
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?", text.strip(), re.IGNORECASE)
    if match is None:
        if text:
            _warn(f"HPCENS_CACHE_SIZE is {text!r}, which is no size as 50GiB: 20GiB is taken")
        return _DEFAULT_BYTES
    return int(float(match[1]) * 1024 ** " KMGT".index(match[2].upper() or " "))


def _make_room(newest: Path) -> None:
    """Remove what was not used for longest, until what is kept beside an index, and with it, is within the limit."""
    with contextlib.suppress(OSError):
        sizes = {path.name: path.stat().st_size for path in newest.parent.iterdir() if path.is_file()}
        used = {path: path.stat().st_mtime for path in newest.parent.glob("*.json") if path != newest}
        total, limit = sum(sizes.values()), size_limit()
        for index in sorted(used, key=used.__getitem__):
            if total <= limit:
                return
            for name in (*_named(index), index.name):
                with contextlib.suppress(OSError):
                    index.with_name(name).unlink()
                    total -= sizes.get(name, 0)


@contextlib.contextmanager
def kept(files: Sequence[Path]) -> Iterator[Path]:
    """Give a path to write the first of the files to; what lies there and beside it after the block is kept.

    files  as the runtime names them; those after the first are written beside it, under its name and their suffixes
    Where the block raises, or writes nothing, nothing is left; where the cache refuses, there is a warning.
    Libraries never write into the cache itself: where that is full, some end the process.
    """
    with tempfile.TemporaryDirectory(prefix=temporary_prefix(), ignore_cleanup_errors=True) as folder:
        first = Path(folder) / files[0].name
        yield first
        if first.exists():
            _keep([first.with_suffix(file.suffix) for file in files], files)


def _keep(written: Sequence[Path], files: Sequence[Path]) -> None:
    """Copy written files to their names, then point the index at them; what it pointed at before is removed."""
    index = _index(files[0])
    entries = []
    for path, file in zip(written, files, strict=True):
        digest, size = digest_file(path), path.stat().st_size
        name = f"{file.stem}-{digest[:_NAMED_BY]}{file.suffix}"
        if not keep_in_cache(file.with_name(name), path):
            return
        entries.append({"file": name, "bytes": size, "sha256": digest})
    before = _named(index)
    if not keep_in_cache(index, json.dumps({"format": FORMAT, "files": entries})):
        return
    for name in before - {str(entry["file"]) for entry in entries}:
        with contextlib.suppress(OSError):
            index.with_name(name).unlink()
    _make_room(index)


def _named(index: Path) -> set[str]:
    """Return the names of the files in the index's folder that an index points at."""
    with contextlib.suppress(OSError, *MALFORMED):
        names = {str(entry["file"]) for entry in json.loads(index.read_text())["files"]}
        return {name for name in names if name == Path(name).name and name.startswith(index.stem)}
    return set()


def _index(file: Path) -> Path:
    return file.with_suffix(".json")


def _remove(own: bool, fault: str, *paths: Path) -> None:
    """Say what is wrong with the last of the files, and remove all, so that it is said once; the site's stay."""
    _warn(f"{paths[-1]} {fault}: it is prepared anew")
    for path in paths if own else ():
        with contextlib.suppress(OSError):
            path.unlink()


def _warn(what: str) -> None:
    print(f"hpcens: warning: {what}", file=sys.stderr, flush=True)
