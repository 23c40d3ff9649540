"""Ask starts to end, by name, in a file of the run directory. The format is described in `hpcens.runs`.

A request names the starts it is for: by their random ids, by that of what announced them, by their submission's. So it
also ends a start of the same submission that is yet to come, and none of a later submission's.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path

from hpcens.files import MALFORMED, write_atomically


def ask_to_end(path: Path, reason: str, names: Collection[str]) -> None:
    """Ask the starts of these names to end, and those that were asked before.

    path  of the request
    """
    _, before = _read(path)
    write_atomically(path, json.dumps({"reason": reason, "names": sorted({*before, *names})}))


def asked_to_end(path: Path, names: Collection[str]) -> str:
    """Return why a start of these names is to end; empty where it is not. A request without names is for any."""
    reason, named = _read(path)
    return reason if reason and (not named or not named.isdisjoint(names)) else ""


def withdraw(path: Path, names: Collection[str] = ()) -> None:
    """Forget a request, unless it is for a start of these names."""
    _, named = _read(path)
    if named.isdisjoint(names):
        path.unlink(missing_ok=True)


def withdraw_nameless(path: Path) -> None:
    """Forget a request that names nobody: whoever it was for has begun before."""
    reason, named = _read(path)
    if reason and not named:
        path.unlink(missing_ok=True)


def _read(path: Path) -> tuple[str, frozenset[str]]:
    """Return why, and the names; no names where a person wrote the file. Nothing where there is no request."""
    try:
        text = path.read_text().strip()
    except OSError:
        return "", frozenset()
    try:
        raw = json.loads(text)
        return str(raw["reason"]), frozenset(map(str, raw["names"]))
    except MALFORMED:
        return text or "cancelled", frozenset()
