"""Code of the user's own, named by an import path `package.module:attribute`: found, pinned by a digest, imported."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Callable
from difflib import get_close_matches
from importlib.machinery import ModuleSpec
from pathlib import Path
from traceback import extract_tb
from typing import Any

from hpcens.errors import MemberError, MemberMisnamed
from hpcens.shell import listed

_NAMED = 8  # things of a module that are listed


def code_digest(path: str, search_path: Path) -> str | None:
    """Return the SHA-256 of the module's source, found without importing it; None where there is no such module.

    path         import path; what follows its colon is not looked at
    search_path  folder in which modules are looked for before all others
    """
    module = path.partition(":")[0]
    add_to_path(search_path)
    try:
        module_spec = find_module(module)
    except KeyError:  # a namespace package within another can be found only once that one is imported
        module_spec = _import_around(module)
    if module_spec is None:
        return None
    origin = Path(module_spec.origin) if module_spec.origin else None
    return hashlib.sha256(origin.read_bytes()).hexdigest() if origin and origin.is_file() else "built in"


def import_callable(path: str, search_path: Path) -> Callable[..., Any]:
    """Import what the path names; what its module prints goes to stderr.

    Raises whatever its import raises, NotThere where the module has no such thing or it cannot be called.
    """
    add_to_path(search_path)
    module, _, attribute = path.partition(":")
    with contextlib.redirect_stdout(sys.stderr):
        value: Any = importlib.import_module(module)
    for name in attribute.split("."):
        if not hasattr(value, name):
            raise NotThere(_not_there(value, name))
        value = getattr(value, name)
    if not callable(value):
        raise NotThere(f"{path} is not callable")
    return value  # type: ignore[no-any-return]


class NotThere(AttributeError):
    """A module does not have what is named, or what it has under that name is no function."""


def _not_there(holder: Any, name: str) -> str:
    """Say what a module or class has in place of what is named."""
    own = getattr(holder, "__name__", "")
    held = getattr(holder, "__dict__", {})
    there = [key for key, value in held.items() if not key.startswith("_") and callable(value)]
    there = [key for key in there if getattr(held[key], "__module__", own) == own] or there
    near = get_close_matches(name, there, 1, 0.5)
    meant = f"; did you mean {near[0]}?" if near else ""
    return f"there is no {name} in {own}{meant}" + (f"; {own} has {listed(there, _NAMED)}" if there else "")


def member_code_digest(owner: str, path: str, search_path: Path) -> str:
    """Return `code_digest` of a member's function. Raises MemberError where there is no such module.

    owner  member, and step where it has several, by which errors name the function
    """
    digest = code_digest(path, search_path)
    if digest is None:
        raise MemberMisnamed(
            f"{owner}: there is no module {path.partition(':')[0]!r}",
            f"code is imported from {search_path} and from the Python path",
        )
    return digest


def import_member_code(owner: str, path: str, search_path: Path) -> Callable[..., Any]:
    """Import a member's function. Raises MemberError where it cannot be imported or called.

    owner  see `member_code_digest`
    """
    try:
        return import_callable(path, search_path)
    except NotThere as error:
        raise MemberMisnamed(f"{owner}: cannot import {path}: {error}", _looked_in(search_path)) from None
    except (Exception, SystemExit) as error:
        where, remedy = _place_of(error, path.partition(":")[0]), _looked_in(search_path)
        if where:
            file = where.partition(":")[0]
            remedy = f"importing {file} runs it: put the class into a file of its own, or mend that line\n{remedy}"
        raise MemberError(
            f"{owner}: cannot import {path}: {describe_exception(error)}" + (f" ({where})" if where else ""), remedy
        ) from error


def _looked_in(search_path: Path) -> str:
    return f"code is imported from {search_path} and from the Python path"


def _place_of(error: BaseException, module: str) -> str:
    """Return file and line of what a module was doing when its import raised; empty where it did not begin."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{Path(error.filename).name}:{error.lineno}"
    own = [frame for frame in extract_tb(error.__traceback__) if Path(frame.filename).stem == module.rpartition(".")[2]]
    return f"{Path(own[-1].filename).name}:{own[-1].lineno}" if own else ""


def describe_exception(error: BaseException) -> str:
    """Return what code of the user's own raised, as a phrase."""
    if isinstance(error, SystemExit):
        return f"SystemExit: exit({'' if error.code is None else error.code}) was called"
    return f"{type(error).__name__}: {error}"


def add_to_path(folder: Path) -> None:
    """Let code be imported from a folder, before all others."""
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))


def find_module(module: str) -> ModuleSpec | None:
    """Find where a module lies. Imports nothing: `importlib.util.find_spec` would import the packages around it."""
    module_spec: ModuleSpec | None = None
    name = ""
    for part in module.split("."):
        if name and (module_spec is None or module_spec.submodule_search_locations is None):
            return None
        locations = module_spec.submodule_search_locations if module_spec else None
        name = f"{name}.{part}".lstrip(".")
        module_spec = next((spec for finder in sys.meta_path if (spec := finder.find_spec(name, locations))), None)
    return module_spec


def _import_around(module: str) -> ModuleSpec | None:
    """Find where a module lies, and import the packages around it for that."""
    try:
        return importlib.util.find_spec(module)
    except (ImportError, ValueError):
        return None
