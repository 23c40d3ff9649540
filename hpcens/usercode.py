"""Imports: code of the user's, named by an import path `package.module:attribute`, found and pinned by digest."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any


def code_digest(path: str, search_path: Path) -> str | None:
    """SHA-256 of the module's source, found without importing it; None where there is no such module."""
    module = path.partition(":")[0]
    add_to_path(search_path)
    try:
        found = _find(module)
    except KeyError:  # a namespace package within another can be found only once that one is imported
        found = _import_around(module)
    if found is None:
        return None
    origin = Path(found.origin) if found.origin else None
    return hashlib.sha256(origin.read_bytes()).hexdigest() if origin and origin.is_file() else "built in"


def import_callable(path: str, search_path: Path) -> Callable[..., Any]:
    """What the path names; what its module prints goes to stderr.

    Raises whatever its import raises, TypeError where it cannot be called.
    """
    add_to_path(search_path)
    module, _, attribute = path.partition(":")
    with contextlib.redirect_stdout(sys.stderr):
        found: Any = importlib.import_module(module)
    for name in attribute.split("."):
        found = getattr(found, name)
    if not callable(found):
        raise TypeError(f"{path} is not callable")
    return found  # type: ignore[no-any-return]


def _find(module: str) -> ModuleSpec | None:
    """Where a module lies. Imports nothing: `importlib.util.find_spec` would import the packages around it."""
    found: ModuleSpec | None = None
    name = ""
    for part in module.split("."):
        if name and (found is None or found.submodule_search_locations is None):
            return None
        path = found.submodule_search_locations if found else None
        name = f"{name}.{part}".lstrip(".")
        found = next((spec for finder in sys.meta_path if (spec := finder.find_spec(name, path))), None)
    return found


def _import_around(module: str) -> ModuleSpec | None:
    try:
        return importlib.util.find_spec(module)
    except (ImportError, ValueError):
        return None


def add_to_path(path: Path) -> None:
    """Let code be imported from the folder, before all others."""
    if str(path) not in sys.path:
        sys.path.insert(0, str(path))
