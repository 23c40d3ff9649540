"""Seats: where in its YAML a member stands, for faults that are found long after the YAML was read."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from hpcens.config.document import Place
from hpcens.errors import HpcensError
from hpcens.specs import RunSpec

_KEY = re.compile(r"members\[\]((?:\.\w+)?)")


@dataclass(frozen=True, slots=True)
class _Yaml:
    """One that was read. lines: of every place in it. names: of its members."""

    file: Path
    lines: Mapping[Place, int]
    names: Sequence[str]


# Folder from which its paths start → the YAML that this process read last there.
_READ: dict[Path, _Yaml] = {}


def remember(file: Path, lines: Mapping[Place, int], spec: RunSpec) -> None:
    """Keep where the members of a configuration stand. lines: of every place in the file."""
    _READ[spec.search_path] = _Yaml(file, lines, spec.member_names)


@contextmanager
def naming_lines(spec: RunSpec) -> Iterator[None]:
    """Add to errors of members the line of the YAML in which each stands, where this process has read it."""
    try:
        yield
    except HpcensError as error:
        yaml = _READ.get(spec.search_path)
        if yaml is not None and yaml.names == spec.member_names:
            error.what, _, error.remedy = _seated(f"{error.what}\n\0{error.remedy}", yaml).partition("\n\0")
        raise


def _seated(text: str, yaml: _Yaml) -> str:
    """Return an error's text with the member's number and line in what follows each line that begins with a member."""
    starts = [re.compile(rf"member {re.escape(name)}[: ]") for name in yaml.names]
    lines, member = [], None
    for line in text.split("\n"):
        words = line.strip().removeprefix("→ ")
        number = next((number for number, start in enumerate(starts) if start.match(words)), None)
        if number is not None:
            member = number
        elif member is not None and words.strip("\0"):
            line, member = _with_line(line, member, yaml), None
        lines.append(line)
    return "\n".join(lines)


def _with_line(line: str, member: int, yaml: _Yaml) -> str:
    place: Place = ("members", member)
    if match := _KEY.search(line):
        line = _KEY.sub(rf"members[{member}]\1", line)
        key = match[1].removeprefix(".")
        place = (*place, key) if (*place, key) in yaml.lines else place
        return f"{line} ({yaml.file}:{yaml.lines.get(place, 1)})"
    return f"{line}; it is members[{member}] ({yaml.file}:{yaml.lines.get(place, 1)})"
