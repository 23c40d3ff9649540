"""Mismatches: what differs between what is there and what is asked for, and the ways out, in words."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from hpcens.errors import FingerprintMismatch
from hpcens.result.fingerprint import Place, Tree, added_key, rounded_members
from hpcens.shell import quoted
from hpcens.specs import UNDONE_BY
from hpcens.usercode import find_module

_CODE = re.compile(r"(code|imports .*|code of preprocess\[\d+\]|code of views\[\d+\](\.undo)?)")
_OF_VIEW = re.compile(r"code of views\[(\d+)\](\.undo)?")
_DIGEST = re.compile(r"[0-9a-f]{32,}")
_DIGITS = 12  # of a digest that are shown
_NAMED_FILES = 3
_ABSENT = "absent"


@dataclass(frozen=True, slots=True)
class Change:
    """One place where two trees differ. before, after: what stands there; None where nothing does."""

    place: Place
    before: Any
    after: Any

    @property
    def member(self) -> str:
        """The member it is of; empty where it is of none."""
        return self.place[1] if self.place[0] == "members" and len(self.place) > 2 else ""

    @property
    def file(self) -> int:
        """The number of the dataset's file it is of, from 1; 0 where it is of none."""
        of_a_file = self.place[:2] == ("data", "files") and len(self.place) == 4 and self.place[2].isdigit()
        return int(self.place[2]) if of_a_file else 0

    @property
    def is_time(self) -> bool:
        """Whether it is the time of a file of the dataset."""
        return bool(self.file) and self.place[3] == "modified" and isinstance(self.before, int)


def changes(old: Tree, new: Tree, *above: str) -> Iterator[Change]:
    """Yield each place where the trees differ. above: names of the branches they are."""
    for key in [*old, *(key for key in new if key not in old)]:
        place = (*above, key)
        before, after = old.get(key), new.get(key)
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            yield from changes(before, after, *place)
        elif before != after and place != ("format",):  # which says only that other lines are about added keys
            yield Change(place, before, after)


def differences(old: Tree, new: Tree, *above: str, files: Sequence[Path] = ()) -> Iterator[str]:
    """Yield a line for each place where the trees differ; one for all members in which the same does.

    above  names of the branches they are
    files  of the dataset, to be named
    """
    alike: dict[object, list[Change]] = {}
    for change in changes(old, new, *above):
        alike.setdefault(_kind(change, new), []).append(change)
    for kind, of_kind in alike.items():
        first, more = of_kind[0], len(of_kind) - 1
        if isinstance(kind, _Code):
            others = f" and {more} more" if more else ""
            yield f"the code of {first.member or 'the rule'}{others} changed: {kind.file}"
        else:
            yield _line(first, files) + (f" (and of {more} more members)" if more else "")


@dataclass(frozen=True, slots=True)
class _Code:
    """Code that changed. file: in which it lies."""

    file: str


def _kind(change: Change, new: Tree) -> object:
    """Return what changes are alike by: code in the same file; the same value at the same key of several members."""
    key = change.place[-1]
    both = isinstance(change.before, str) and isinstance(change.after, str)
    if both and change.place[-2:-1] != ("numerics",) and _CODE.fullmatch(key) and (file := _code_file(change, new)):
        return _Code(file)
    if not change.member:
        return change.place
    return change.place[2:], str(change.before), str(change.after)


def _code_file(change: Change, new: Tree) -> str:
    """Return the file, as it is found below a folder of the path, in which code lies; empty where it is not known."""
    key = change.place[-1]
    branch: Any = new
    for name in change.place[:-1]:
        branch = branch.get(name, {}) if isinstance(branch, Mapping) else {}
    if not isinstance(branch, Mapping):
        return ""
    module = key.removeprefix("imports ") if key.startswith("imports ") else ""
    if key == "code":
        named = branch.get("factory") or new.get("rule", {}).get("name", "")
        module = str(named).partition(":")[0] if ":" in str(named) else ""
    elif of_view := _OF_VIEW.fullmatch(key):
        call, _, undo = str(branch.get(f"views[{of_view[1]}]", "")).partition(UNDONE_BY)
        module = (undo if of_view[2] else call).partition(":")[0]
    elif called := re.search(r'"call": "([\w.]+):', str(branch.get(key.removeprefix("code of "), ""))):
        module = called[1]
    return _file_of(module) if module else ""


def _file_of(module: str) -> str:
    try:
        module_spec = find_module(module)
    except (KeyError, ImportError, ValueError):
        module_spec = None
    if module_spec is None or not module_spec.origin:
        return f"module {module}"
    parts = module.split(".")
    return "/".join(
        [*parts, Path(module_spec.origin).name]
        if module_spec.submodule_search_locations
        else [*parts[:-1], Path(module_spec.origin).name]
    )


def _line(change: Change, files: Sequence[Path]) -> str:
    place = ".".join(change.place)
    if change.file and change.file <= len(files):
        place += f" ({files[change.file - 1].name})"
    shown = _time if change.is_time else _shown
    return f"{place}: {shown(change.before)} then, {shown(change.after)} now{_restoring(change)}"


def _shown(value: object) -> str:
    text = _ABSENT if value is None else str(value)
    if _DIGEST.fullmatch(text):
        return f"{text[:_DIGITS]}…"
    return text if len(text) <= 60 else f"{text[:57]}…"


def _time(value: object) -> str:
    """Return a file's time to the nanosecond, as `touch -d` takes it."""
    if not isinstance(value, int):
        return _shown(value)
    seconds, rest = divmod(value, 10**9)
    return f"{datetime.fromtimestamp(seconds, timezone.utc):%Y-%m-%d %H:%M:%S}.{rest:09d} UTC"


def _restoring(change: Change) -> str:
    """Say what to write for the meaning that an added key had before, where it then was left out."""
    added = added_key(change.place)
    if added is None or change.before is not None:
        return ""
    if not added.write:
        return " → the earlier hpcens that made it did not look at this, and can finish it or add to it"
    return f" → {added.write} in the YAML is what it was made with"


def require_same(
    old: Tree, new: Tree, where: Path | str, *, output: Path | None = None, files: Sequence[Path] = ()
) -> None:
    """Raise FingerprintMismatch with every difference.

    where   what the old tree was found in
    output  the job's result, where it is to be or is
    files   of the dataset, in order
    The format of either need not be the other's: what counts is which keys are in.
    """
    changed = list(changes(old, new))
    if changed:
        lines = differences(old, new, files=files)
        raise FingerprintMismatch(
            f"{where} was made of something else:\n  " + "\n  ".join(lines),
            "\n".join(_ways_out(changed, old, new, where, output, files)),
        )


def _ways_out(
    changed: Sequence[Change], old: Tree, new: Tree, where: Path | str, output: Path | None, files: Sequence[Path]
) -> Iterator[str]:
    """Yield what may be done, a line each; parameters as those of `require_same`."""
    yield from _touches(changed, files)
    yield "to go on with what is there: put back what it was made of, and run the same command again"
    if output is not None and where == output and _may_be_combined(changed, old, new):
        beside = _beside(output, "combined")
        yield f"to combine its members anew: hpcens combine {quoted(output)} -c hpcens.yaml -o {beside}"
    if output is None:
        yield "to have both: write another output.path in the YAML"
        yield "to begin anew: remove the old result and its run directory"
        return
    yield f"to have both: write another output in the YAML, output: {{path: {_beside(output, 'new')}}}"
    there = [path for path in (output, output.with_suffix(".run")) if path.exists()]
    if there:
        yield f"to begin anew, and lose what is there: rm -r {' '.join(map(quoted, there))}"


def _touches(changed: Iterable[Change], files: Sequence[Path]) -> Iterator[str]:
    """Yield how to give files their times back of which nothing else differs."""
    of_files: dict[int, list[Change]] = {}
    for change in changed:
        if change.file:
            of_files.setdefault(change.file, []).append(change)
    only_times = [
        (n, changes[0])
        for n, changes in of_files.items()
        if len(changes) == 1 and changes[0].is_time and n <= len(files)
    ]
    for number, change in only_times[:_NAMED_FILES]:
        yield (
            "its size, its rows and those that were looked at are the same; if nothing in it was changed:"
            f" touch -d '{_time(change.before)}' {quoted(files[number - 1])}, and run the same command again"
        )
    if (more := len(only_times) - _NAMED_FILES) > 0:
        yield f"and so for {more} more files, …"


def _may_be_combined(changed: Iterable[Change], old: Tree, new: Tree) -> bool:
    """Tell whether a result whose members are stored in full differs by its rule alone, and no cascade chose rows."""
    if "cascade" in old["rule"] or "cascade" in new["rule"]:
        return False
    only_rule = all(change.place[0] == "rule" for change in changed) and old["rule"]["space"] == new["rule"]["space"]
    return only_rule and "members" in old["outputs"]["datasets"] and not rounded_members(old, old["members"])


def _beside(output: Path, what: str) -> str:
    return quoted(output.with_name(f"{output.stem}.{what}{output.suffix}").name)
