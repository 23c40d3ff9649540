"""Code: a member's functions by import path; what is wrong with them is told in the member's name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from hpcens.errors import MemberError
from hpcens.usercode import code_digest, import_callable


def digest_code(who: str, path: str, search_path: Path) -> str:
    """SHA-256 of the module a function lies in, without importing it. Raises MemberError where there is none."""
    digest = code_digest(path, search_path)
    if digest is None:
        raise MemberError(
            f"{who}: there is no module {path.partition(':')[0]!r}",
            f"code is imported from {search_path} and from the Python path",
        )
    return digest


def imported(who: str, path: str, search_path: Path) -> Callable[..., Any]:
    """The function. Raises MemberError where it cannot be imported, or is none."""
    try:
        return import_callable(path, search_path)
    except (Exception, SystemExit) as error:
        raise MemberError(
            f"{who}: cannot import {path}: {raised(error)}",
            f"code is imported from {search_path} and from the Python path",
        ) from error


def raised(error: BaseException) -> str:
    """What an error is, in a phrase."""
    if isinstance(error, SystemExit):
        return f"SystemExit: exit({'' if error.code is None else error.code}) was called"
    return f"{type(error).__name__}: {error}"
