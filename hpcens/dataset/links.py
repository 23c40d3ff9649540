"""Links: the files that HDF5 files name, found as the HDF5 library finds them.

| named by | looked for |
| --- | --- |
| a virtual dataset, an external link | as it stands if absolute, and then by its last part alone: below each folder of
  $HDF5_VDS_PREFIX or $HDF5_EXT_PREFIX, beside the file, in the working folder, beside what the file is a link to |
| external storage | below $HDF5_EXTFILE_PREFIX, else in the working folder |

`${ORIGIN}` at the beginning of a prefix is the folder of the file.
"""

from __future__ import annotations

import contextlib
import glob
import os
import re
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

import h5py

from hpcens.errors import DataError

VIRTUAL, LINK, _STORAGE = "HDF5_VDS_PREFIX", "HDF5_EXT_PREFIX", "HDF5_EXTFILE_PREFIX"

_ORIGIN = "${ORIGIN}"
_MOST_LINKS = 32
_SUBSTITUTE = re.compile("%([b%])")


def named_file(home: Path, name: str, variable: str) -> Path | None:
    """Return the file that an external link or a virtual dataset names; None where there is none.

    home      the file that names it
    variable  VIRTUAL or LINK
    Raises DataError where it is no regular file.
    """
    for path in _places(home, name, variable):
        with contextlib.suppress(OSError):
            mode = path.stat().st_mode
            if not stat.S_ISDIR(mode):
                _require_regular(mode, path, f"which {home} names")
                return path
    return None


def _places(home: Path, name: str, variable: str) -> Iterator[Path]:
    if os.path.isabs(name):
        yield Path(name)
        name = os.path.basename(name)
    prefix = os.environ.get(variable, "")
    yield from (Path(folder) / name for folder in prefix.split(os.pathsep) if folder)
    if variable == VIRTUAL and prefix.startswith(_ORIGIN):
        yield _expanded(prefix, home) / name
    yield home.parent / name
    yield Path.cwd() / name
    if home.is_symlink():
        yield home.resolve().parent / name


def storage_file(home: Path, name: str) -> Path:
    """Return the file that holds raw data of a dataset.

    home  the file that names it
    """
    prefix = os.environ.get(_STORAGE, "")
    folder = _expanded(prefix, home) if prefix not in ("", ".") else Path.cwd()
    return folder / name


def require_inside(path: Path, home: Path, name: str) -> None:
    """Raise DataError where raw data lie outside the folders of the file that names them, and that the user names.

    A file may name any other, which is then scored, or copied into the result, byte by byte: no format protects it.

    path  of the raw data
    home  the file that names it
    name  of the dataset, for the message
    """
    prefix = os.environ.get(_STORAGE, "")
    named = [_expanded(prefix, home)] if prefix not in ("", ".") else []
    folders = map(os.path.realpath, (home.parent, Path(os.path.realpath(home)).parent, *named))
    real = Path(os.path.realpath(path))
    if not any(real.is_relative_to(folder) for folder in folders):
        raise DataError(
            f"{name} is stored in {path}, outside the folder of its own file",
            "move it there; or, if you trust who made the file, write dataset.trust: [file_access]",
        )


def _expanded(prefix: str, home: Path) -> Path:
    if prefix.startswith(_ORIGIN):
        return Path(f"{home.parent}{os.sep}{prefix.removeprefix(_ORIGIN)}")
    return Path(prefix)


def require_regular(path: Path, what: str) -> None:
    """Raise DataError where a path is there and is a pipe or a device: opening one may never end.

    what  what names it, in words
    """
    if path.exists():
        _require_regular(path.stat().st_mode, path, what)


def _require_regular(mode: int, path: Path, what: str) -> None:
    if not stat.S_ISREG(mode):
        raise DataError(f"{path}, {what}, is not a regular file", "a pipe or a device cannot be read by rows")


def passed(file: h5py.File, key: str) -> list[Path]:
    """Return the files into which external links on a path lead, in their order, as far as they can be followed.

    Raises DataError where a file on the way is a pipe or a device; none such is opened.
    """
    return [path for path in _followed(file, key) if isinstance(path, Path)]


def missing_file(file: h5py.File, key: str) -> str | None:
    """Return what a link on a path leads to in a file that is not there, and its name; None where all are."""
    return next((name for name in _followed(file, key) if isinstance(name, str)), None)


def _followed(file: h5py.File, key: str) -> Iterator[Path | str]:
    with contextlib.suppress(OSError, RuntimeError, KeyError):  # damaged: whoever opens the dataset will say so
        yield from _walk(file["/"], Path(file.filename), key, _MOST_LINKS)


def _walk(group: h5py.Group, home: Path, key: str, left: int) -> Iterator[Path | str]:
    """Yield the files that lie behind a path from a group on, last, in words, what is not there.

    left  links that may still be followed
    """
    parts = [part for part in key.split("/") if part not in ("", ".")]
    if key.startswith("/"):
        group = group.file["/"]
    for i, part in enumerate(parts):
        links, name, rest = group.id.links, part.encode(errors="surrogateescape"), "/".join(parts[i + 1 :])
        if not links.exists(name) or not left:
            return
        kind = links.get_info(name).type
        if kind == h5py.h5l.TYPE_EXTERNAL:
            target, inside = map(os.fsdecode, links.get_val(name))
            path = named_file(home, target, LINK)
            yield f"{inside} in {target}" if path is None else path
            if path is not None:
                with h5py.File(path, "r", locking=False) as other:
                    yield from _walk(other["/"], path, f"{inside}/{rest}", left - 1)
            return
        if kind == h5py.h5l.TYPE_SOFT:
            yield from _walk(group, home, f"{os.fsdecode(links.get_val(name))}/{rest}", left - 1)
            return
        if not rest or not isinstance(inner := group[name], h5py.Group):
            return
        group = inner


def is_numbered(name: str) -> bool:
    """Tell whether a name in a virtual dataset stands for many: it holds `%b`, which is a block's number."""
    return "b" in _SUBSTITUTE.findall(name)


def numbered(name: str, number: int) -> str:
    """Return the name of a block; `%%` is a percent sign."""
    return _SUBSTITUTE.sub(lambda found: str(number) if found[1] == "b" else "%", name)


def numbers_of(home: Path, name: str) -> Iterator[int]:
    """Yield the numbers of the blocks whose files are there, of a name with `%b`; none where the first is missing."""
    first = named_file(home, numbered(name, 0), VIRTUAL)
    if first is not None:
        short = name if str(first).endswith(numbered(name, 0)) else os.path.basename(name)
        folder = str(first).removesuffix(numbered(short, 0))
        anything = "".join("*" if part == "%b" else glob.escape(numbered(part, 0)) for part in _parts(short))
        yield from numbers_among(
            (path.removeprefix(folder) for path in glob.glob(glob.escape(folder) + anything)), short
        )


def numbers_among(names: Iterable[str], name: str) -> Iterator[int]:
    """Yield the numbers that a name with `%b` has among others."""
    parts = _parts(name)
    pattern = re.compile("".join("([0-9]+)" if part == "%b" else re.escape(numbered(part, 0)) for part in parts))
    for found in filter(None, map(pattern.fullmatch, names)):
        if len({*found.groups()}) == 1:
            yield int(found[1])


def _parts(name: str) -> list[str]:
    """Cut a name at each `%b` and `%%`, which are parts of their own."""
    return re.split("(%[b%])", name)
