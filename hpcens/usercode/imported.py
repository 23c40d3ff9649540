"""Imported code: the files of the user's own, and the libraries, that a function turned out to stand on.

Found once, where the function is tried, from what its process has imported since; kept with digests, so that
whether any of it changed can be told without importing a thing.
"""

from __future__ import annotations

import re
import sys
import sysconfig
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

from hpcens.files import digest_file
from hpcens.usercode import add_to_path, find_module

_FILE, _LIBRARY = "imports ", "library "
_INSTALLED = {"site-packages", "dist-packages"}
_NOT_IMPORTED = {"__main__", "__mp_main__", "sitecustomize", "usercustomize"}
_EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"  # SHA-256 of no bytes


@dataclass(frozen=True, slots=True)
class Imported:
    """What was imported.

    files      module name → its file and the SHA-256 of that
    libraries  name of an installed distribution → its version
    """

    files: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    libraries: Mapping[str, str] = field(default_factory=dict)

    @staticmethod
    def since(before: Collection[str]) -> Imported:
        """Look at what this process has imported. before: names of the modules that it had imported already."""
        files = {name: (str(file), digest_file(file)) for name, file in _own_files(before)}
        return Imported(dict(sorted(files.items())), dict(sorted(_libraries(before).items())))

    @staticmethod
    def from_json(raw: Mapping[str, Any]) -> Imported:
        """Return what `asdict` made plain. Raises KeyError, TypeError or ValueError where it is nothing such."""
        files = {str(name): (str(file), str(digest)) for name, (file, digest) in raw["files"].items()}
        return Imported(files, {str(name): str(release) for name, release in raw["libraries"].items()})

    def stands(self, search_path: Path) -> bool:
        """Tell whether all that would be imported now is as it was. Imports nothing."""
        add_to_path(search_path)
        try:
            same = all(digest_file(_place(name) or Path(file)) == digest for name, (file, digest) in self.files.items())
        except OSError:
            return False
        return same and all(_version(name) == release for name, release in self.libraries.items())

    def digests(self, own: Collection[str]) -> dict[str, str]:
        """Return it as digests: of each file that says something, and the version of each library.

        own  modules that are digested as what they are, and not again as imported by themselves
        """
        files = {
            f"{_FILE}{name}": digest for name, (_, digest) in self.files.items() if name not in own and digest != _EMPTY
        }
        return files | {f"{_LIBRARY}{name}": release for name, release in self.libraries.items()}


def is_of_imports(key: str) -> bool:
    """Tell whether a digest of this key was made by `Imported.digests`."""
    return key.startswith((_FILE, _LIBRARY))


def digested_again(digests: Mapping[str, str], search_path: Path) -> dict[str, str]:
    """Digest again what those of `Imported.digests` among these were made of; what cannot be found is left out."""
    add_to_path(search_path)
    now: dict[str, str] = {}
    for key in filter(is_of_imports, digests):
        if key.startswith(_LIBRARY):
            now[key] = _version(key.removeprefix(_LIBRARY)) or ""
        elif (file := _place(key.removeprefix(_FILE))) is not None:
            now[key] = digest_file(file)
    return {key: digest for key, digest in now.items() if digest}


def other_code(before: Collection[str], digests: Mapping[str, str], own: Mapping[str, str]) -> str:
    """Say which file that this process has imported is not one that was tried; empty where all are.

    before   names of the modules that it had imported already
    digests  those of `Imported.digests`, of all functions that were imported
    own      module → digest, of the modules in which those functions lie
    """
    known = {key.removeprefix(_FILE): digest for key, digest in digests.items() if key.startswith(_FILE)} | {**own}
    for name, file in _own_files(before):
        digest = digest_file(file)
        if digest not in (known.get(name), _EMPTY):
            return f"{file} was imported as {name}, which is {'another' if name in known else 'new'} since"
    return ""


def _own_files(before: Collection[str]) -> Iterator[tuple[str, Path]]:
    """Yield the modules that lie in a file of their own outside Python, hpcens and what is installed."""
    standard = tuple(Path(sysconfig.get_path(key)) for key in ("stdlib", "platstdlib"))
    for name, module in list(sys.modules.items()):
        top = name.partition(".")[0]
        if name in before or name in _NOT_IMPORTED or top == "hpcens" or not isinstance(module, ModuleType):
            continue
        around = _file_of(sys.modules.get(top))  # what a library makes as it runs is part of it, wherever it lies
        file = _file_of(module)
        if file is None or any(_INSTALLED & {*place.parts} for place in (file, around) if place is not None):
            continue
        if not any(file.is_relative_to(folder) for folder in standard):
            yield name, file


def _file_of(module: ModuleType | None) -> Path | None:
    """Return the file of a module, of one within an archive the archive; None where it has none."""
    name = None if module is None else vars(module).get("__file__")
    if not isinstance(name, str) or not Path(name).is_absolute():
        return None
    return next((place for place in (Path(name), *Path(name).parents) if place.is_file()), None)


def _place(name: str) -> Path | None:
    """Return where a module would be imported from; None where that cannot be told without importing another."""
    try:
        spec = find_module(name)
    except Exception:  # whatever a finder raises: it is imported by other means than its name
        return None
    origin = Path(spec.origin) if spec is not None and spec.origin else None
    return next((place for place in (origin, *origin.parents) if place.is_file()), None) if origin else None


def _libraries(before: Collection[str]) -> dict[str, str]:
    """Return the distributions that were imported, with their versions; not those that hpcens and torch stand on."""
    installed = _installed()
    tops = {name.partition(".")[0] for name in [*sys.modules] if name not in before}
    names = {_normal(name) for top in tops for name in installed.get(top, ())}
    editable = {_normal(name) for top in tops if _is_own(top) for name in installed.get(top, ())}
    return {name: release for name in names - editable - _beneath_hpcens() if (release := _version(name))}


def _installed() -> Mapping[str, Collection[str]]:
    """Return which distributions brought a module: its name up to the first dot → their names."""
    found: dict[str, set[str]] = {top: {*names} for top, names in metadata.packages_distributions().items()}
    if sys.version_info < (3, 11):  # there only those are named that list their modules, and few still do
        for distribution in metadata.distributions():
            # as text: an object for each of the files of torch would take seconds
            files = [line.partition(",")[0] for line in (distribution.read_text("RECORD") or "").splitlines()]
            for top in {file.partition("/")[0].partition(".")[0] for file in files if file.endswith((".py", ".so"))}:
                found.setdefault(top, set()).add(distribution.metadata["Name"])
    return found


def _is_own(top: str) -> bool:
    file = _file_of(sys.modules.get(top))
    return file is not None and not _INSTALLED & {*file.parts}


@cache
def _beneath_hpcens() -> frozenset[str]:
    """Return hpcens and all distributions that it requires: torch's version stands for them."""
    found: set[str] = set()
    left = ["hpcens", "torch"]
    while left:
        if (name := _normal(left.pop())) not in found:
            found.add(name)
            left += [_requirement(line) for line in _requires(name) if "extra ==" not in line]
    return frozenset(found)


def _requires(name: str) -> list[str]:
    try:
        return metadata.requires(name) or []
    except metadata.PackageNotFoundError:
        return []


def _requirement(line: str) -> str:
    name = re.match(r"[\w.-]+", line)
    return name[0] if name else ""


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except (metadata.PackageNotFoundError, ValueError):
        return None
