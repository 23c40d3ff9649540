"""The page: a YAML document as plain data, the line of every place in it, and all that is wrong with it.

The nodes are walked here rather than by PyYAML's constructor, which takes the last of duplicate keys, forgets
lines, and expands aliases without bound.
"""

from __future__ import annotations

import json
import math
import re
import stat
from collections.abc import Mapping
from errno import EFBIG, ENOENT
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpcens.errors import UsageError
from hpcens.shell import option

if TYPE_CHECKING:
    import yaml

    Node = yaml.ScalarNode | yaml.SequenceNode | yaml.MappingNode

Place = tuple[str | int, ...]

_LARGEST = 1 << 20  # characters of the file, and of what its aliases expand to; 20 000 class names take half of it
_DEEPEST = 32
_MOST_LINES = 100
_TAG = "tag:yaml.org,2002:"
_EXPONENT = re.compile(r"[-+]?(\d[\d_]*)?\.?\d[\d_]*[eE][-+]?\d+\Z", re.ASCII)  # 1e-3: text to PyYAML, not to people
_NO_TEXT = re.compile("[\0\ud800-\udfff]")


def shown(value: object) -> str:
    """Show a value on one line, in at most 60 characters."""
    if isinstance(value, list | dict):
        return "a list" if isinstance(value, list) else "a mapping"
    text = "nothing" if value is None else json.dumps(value, ensure_ascii=not str(value).isprintable())
    return text if len(text) <= 60 else text[:59] + "…"


def dotted(place: Place) -> str:
    """Write a place as people do: members[2].weights."""
    keys = (part if isinstance(part, int) or re.fullmatch(r"[\w-]{1,60}", part) else shown(part) for part in place)
    return "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in keys).removeprefix(".")


class Page:
    """One YAML document: the line of every place, and all that is wrong with it.

    numbered  whether a person can look up its lines: messages name them
    folder    where its relative paths start; None: that of the file
    """

    def __init__(self, file: Path, *, numbered: bool = True, folder: Path | None = None) -> None:
        self.file = file
        self.folder = file.parent if folder is None else folder
        self._numbered = numbered
        self.lines: dict[Place, int] = {}
        self.leaves: set[Place] = set()
        self.refused: set[Place] = set()
        self.problems: list[tuple[Place, str, int]] = []
        self.size = 0

    def problem(self, place: Place, what: str, line: int = 0) -> None:
        """Note what is wrong with a place; without a line, at the line of the place."""
        self.problems.append((place, what, line))

    def refuse(self, place: Place, what: str) -> Any:
        """Note a value that cannot be used, and return None to stand for it; later checks pass over it."""
        self.refused.add(place)
        self.problem(place, what)

    def error(self) -> UsageError:
        """Return all problems as one error, in the order of their lines, one a line."""
        noted = {(line or self._seat(place)[0], self._seat(place)[1], what) for place, what, line in self.problems}
        lines = [f"{self.at(line)}: {where + ': ' if where else ''}{what}" for line, where, what in sorted(noted)]
        if len(lines) > _MOST_LINES:
            lines[_MOST_LINES:] = [f"… and {len(lines) - _MOST_LINES} more"]
        return UsageError("\n".join(lines))

    def at(self, line: int) -> str:
        """Name a line of the document, as far as a person can look it up."""
        return f"{self.file}:{line}" if self._numbered else str(self.file)

    def _seat(self, place: Place) -> tuple[int, str]:
        """Return line and dotted path as written: for what a shorthand stands for, those of the shorthand."""
        written = next(place[:n] for n in range(len(place), -1, -1) if place[:n] in self.lines)
        return self.lines[written], dotted(written if written in self.leaves else place)

    def place_as(self, written: Place, place: Place) -> None:
        """Let a place that a shorthand stands for be named by what is written."""
        if written in self.lines:
            self.lines[place] = self.lines[written]
            self.leaves |= {place} if written in self.leaves else set()

    def value(self, node: Node, line: int, place: Place = (), above: tuple[Node, ...] = ()) -> Any:
        """Return a node as plain data. Raises UsageError where its aliases expand to too much.

        line   where it begins
        above  the nodes that contain it
        """
        self.lines[place] = line
        self.size += 1 + (len(node.value) if node.id == "scalar" else 0)
        if self.size > _LARGEST:
            what = f"{self.at(line)}: {dotted(place)}: aliases expand to more than {_LARGEST} characters"
            raise UsageError(what, "write the values out, or use fewer aliases")
        if any(node is outer for outer in above):
            return self.refuse(place, "is an alias of what contains it; write the value out")
        if len(above) > _DEEPEST:
            return self.refuse(place, f"is nested more than {_DEEPEST} deep; flatten it")
        if (node.id, node.tag) == ("mapping", _TAG + "map"):
            return self._mapping(node, place, (*above, node))
        if (node.id, node.tag) == ("sequence", _TAG + "seq"):
            items = enumerate(node.value)
            return [self.value(item, item.start_mark.line + 1, (*place, i), (*above, node)) for i, item in items]
        self.leaves.add(place)
        return self._scalar(node, place)

    def _mapping(self, node: Node, place: Place, above: tuple[Node, ...]) -> dict[str, Any]:
        """Return the node's own keys over those merged by <<, where an earlier source wins."""
        merged: dict[str, Any] = {}
        merges = [value for key, value in node.value if key.tag == _TAG + "merge"]
        sources = [source for merge in merges for source in (merge.value if merge.id == "sequence" else [merge])]
        for source in reversed(sources):
            if source.id == "mapping":
                merged |= self.value(source, self.lines[place], place, above) or {}
            else:
                self.refuse(place, "<< merges mappings only; for example <<: *defaults")
        own: dict[str, Any] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            self.size += len(key.value)
            if key.tag == _TAG + "merge":
                continue
            if (key.id, key.tag) != ("scalar", _TAG + "str") or _NO_TEXT.search(key.value):
                detail = f": {shown(key.value)}" if key.id == "scalar" else ""
                self.problem(place, f"has a key that is not text{detail}; put it in quotes, or rename it", line)
            elif key.value in own:
                again = (*place, key.value)
                self.problem(again, f"is given again, first in line {self.lines[again]}; keep one", line)
            else:
                own[key.value] = self.value(value, line, (*place, key.value), above)
        return merged | own

    def _scalar(self, node: Node, place: Place) -> Any:
        kind = node.tag.removeprefix(_TAG) if node.id == "scalar" else node.tag
        text = node.value if node.id == "scalar" else ""
        bare = text.replace("_", "").lower()
        if kind == "null" and bare in ("", "~", "null"):
            return None
        if kind == "str":
            if _NO_TEXT.search(text):
                return self.refuse(place, "holds NUL or half a surrogate pair, which no text may hold; remove it")
            return text
        if kind == "bool" and bare in ("true", "yes", "on", "false", "no", "off"):
            return bare in ("true", "yes", "on")
        if kind not in ("int", "float"):
            unknown = shown(kind.removeprefix(_TAG))
            return self.refuse(place, f"is of the YAML type {unknown}, which is not accepted; put text in quotes")
        try:
            number = int(bare, 0) if kind == "int" else float(re.sub(r"\.(?=inf|nan)", "", bare))
        except ValueError:  # 010 and 1:30 are 8 and 90 to some readers of YAML, 10 and text to others
            return self.refuse(place, f"{shown(text)} is no decimal number; write one, or put text in quotes")
        if (kind == "int" and abs(number) >= 2**63) or (math.isinf(number) and "inf" not in bare):
            return self.refuse(place, f"{shown(text)} is too large; write a number below 2^63")
        return number


def read(path: Path) -> str:
    """Read the text of a configuration. Raises UsageError: no file, not readable, too large, not UTF-8."""
    remedy = f"name your hpcens.yaml with {option('config')}, or write one: hpcens init"
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # a pipe would block, a device would never end
            raise UsageError(f"{path}: is a folder or a device, not a file", remedy)
        with path.open("rb") as file:
            data = file.read(_LARGEST + 1)
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}", remedy) from None
    if len(data) > _LARGEST:
        raise UsageError(f"{path}: is larger than {_LARGEST} bytes", remedy)
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UsageError(f"{path}:{line}: is not UTF-8 text", "save the file as UTF-8") from None


def compose(page: Page, text: str) -> dict[str, Any]:
    """Read a document as plain data; what is wrong with single values is left on the page.

    Raises UsageError where it is not YAML, or no mapping.
    """
    import yaml
    from yaml.reader import ReaderError

    class Loader(yaml.SafeLoader):
        pass

    Loader.add_implicit_resolver(_TAG + "float", _EXPONENT, list("-+.0123456789"))
    try:
        root: Any = yaml.compose(text, Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        what = " ".join(filter(None, (error.context, error.problem)))
        remedy = "check the indentation (spaces, no tabs), the colons and the quotes, there and one line above"
        raise UsageError(f"{page.at(mark.line + 1 if mark else 1)}: is not YAML: {what}", remedy) from None
    except ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        what = f"{page.at(line)}: holds a character that YAML does not allow: {shown(text[error.position])}"
        raise UsageError(what, "remove it") from None
    except RecursionError:
        raise UsageError(f"{page.file}: is nested too deeply", "flatten it") from None
    except (ValueError, OverflowError) as error:  # "\UFFFFFFFF", which PyYAML does not catch
        raise UsageError(f"{page.file}: is not YAML: {error}", "check the \\U escapes in double quotes") from None
    if root is None:
        raise UsageError(f"{page.at(1)}: is empty", "write a commented example to start from: hpcens init")
    tree = page.value(root, root.start_mark.line + 1)
    if not isinstance(tree, dict):
        page.problem((), "the file must be a mapping of keys to values; for a commented example: hpcens init")
        raise page.error()
    return tree


def dump(tree: Mapping[str, Any]) -> str:
    """Return plain data as YAML, in the order of its keys."""
    import yaml

    text: str = yaml.safe_dump(tree, sort_keys=False, allow_unicode=True, width=120)
    return text


def read_beside(path: Path, most: int) -> bytes:
    """Read a file that a YAML names. Raises OSError where it is none, or larger than `most` bytes."""
    if not path.is_file():  # a pipe would be waited for
        raise FileNotFoundError(ENOENT, "no such file")
    with path.open("rb") as opened:
        content = opened.read(most + 1)
    if len(content) > most:
        raise OSError(EFBIG, f"is larger than {most} bytes")
    return content
