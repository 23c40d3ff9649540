"""Reads a run.yaml into a RunSpec: once, at the edge, reporting every error with its line, its place and a remedy.

text ─compose─► nodes ─_Page.value─► plain data ─_expand─► shorthands written out ─pydantic─► RunSpec
The nodes are walked here rather than by PyYAML's constructor, which takes the last of duplicate keys, forgets
lines, and expands aliases without bound. pydantic and yaml load only when a file does.
"""

from __future__ import annotations

import json
import math
import os
import re
import stat
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, replace
from difflib import get_close_matches
from keyword import iskeyword
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, get_args

from hpcens.errors import UsageError
from hpcens.specs import Job, MemberSpec, OutputName, PlannerName, RuleName, RuleSpec, RunSpec, Space

if TYPE_CHECKING:
    import yaml

    Node = yaml.ScalarNode | yaml.SequenceNode | yaml.MappingNode

Place = tuple[str | int, ...]

_LARGEST = 1 << 20  # characters of the file, and of what its aliases expand to; 20 000 class names take half of it
_DEEPEST = 32
_MOST_LINES = 100
_MOST_CLASSES = 100_000
_TAG = "tag:yaml.org,2002:"
_EXPONENT = re.compile(r"[-+]?(\d[\d_]*)?\.?\d[\d_]*[eE][-+]?\d+\Z", re.ASCII)  # 1e-3: text to PyYAML, not to people
_NO_TEXT = re.compile("[\0\ud800-\udfff]")
_SIZE = re.compile(r"(\d{1,20}(?:\.\d{1,20})?(?:[eE]\+?\d{1,2})?) *([A-Za-z]*)", re.ASCII)
_UNITS = {"": 1, "B": 1} | {p + i + "B": (1024 if i else 1000) ** n for n, p in enumerate("KMGT", 1) for i in ("", "i")}


def _shown(value: object) -> str:
    """The value on one line, in at most 60 characters."""
    if isinstance(value, list | dict):
        return "a list" if isinstance(value, list) else "a mapping"
    text = "nothing" if value is None else json.dumps(value, ensure_ascii=not str(value).isprintable())
    return text if len(text) <= 60 else text[:59] + "…"


def _dotted(place: Place) -> str:
    keys = (part if isinstance(part, int) or re.fullmatch(r"[\w-]{1,60}", part) else _shown(part) for part in place)
    return "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in keys).removeprefix(".")


class _Page:
    """One YAML document: the line of every place, and all that is wrong with it."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.lines: dict[Place, int] = {}
        self.leaves: set[Place] = set()
        self.refused: set[Place] = set()
        self.problems: list[tuple[Place, str, int]] = []
        self.size = 0

    def problem(self, place: Place, what: str, line: int = 0) -> None:
        """Notes what is wrong there; without a line, at the line of the place."""
        self.problems.append((place, what, line))

    def refuse(self, place: Place, what: str) -> Any:
        """A value that cannot be used: None stands for it, and later checks pass over it."""
        self.refused.add(place)
        self.problem(place, what)

    def error(self) -> UsageError:
        """The problems in the order of their lines, one a line."""
        found = {(line or self._seat(place)[0], self._seat(place)[1], what) for place, what, line in self.problems}
        lines = [f"{self.file}:{line}: {shown + ': ' if shown else ''}{what}" for line, shown, what in sorted(found)]
        if len(lines) > _MOST_LINES:
            lines[_MOST_LINES:] = [f"… and {len(lines) - _MOST_LINES} more"]
        return UsageError("\n".join(lines))

    def _seat(self, place: Place) -> tuple[int, str]:
        """Line and dotted path as written: for what a shorthand stands for, those of the shorthand."""
        written = next(place[:n] for n in range(len(place), -1, -1) if place[:n] in self.lines)
        return self.lines[written], _dotted(written if written in self.leaves else place)

    def value(self, node: Node, line: int, place: Place = (), above: tuple[Node, ...] = ()) -> Any:
        """The node as plain data. Raises UsageError where its aliases expand to too much."""
        self.lines[place] = line
        self.size += 1 + (len(node.value) if node.id == "scalar" else 0)
        if self.size > _LARGEST:
            what = f"{self.file}:{line}: {_dotted(place)}: aliases expand to more than {_LARGEST} characters"
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
        """Own keys over those merged by <<, where an earlier source wins."""
        merged: dict[str, Any] = {}
        merges = [value for key, value in node.value if key.tag == _TAG + "merge"]
        for source in reversed([one for some in merges for one in (some.value if some.id == "sequence" else [some])]):
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
                shown = f": {_shown(key.value)}" if key.id == "scalar" else ""
                self.problem(place, f"has a key that is not text{shown}; put it in quotes, or rename it", line)
            elif key.value in own:
                here = (*place, key.value)
                self.problem(here, f"is given again, first in line {self.lines[here]}; keep one", line)
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
            shown = _shown(kind.removeprefix(_TAG))
            return self.refuse(place, f"is of the YAML type {shown}, which is not accepted; put text in quotes")
        try:
            number = int(bare, 0) if kind == "int" else float(re.sub(r"\.(?=inf|nan)", "", bare))
        except ValueError:  # 010 and 1:30 are 8 and 90 to some readers of YAML, 10 and text to others
            return self.refuse(place, f"{_shown(text)} is no decimal number; write one, or put text in quotes")
        if (kind == "int" and abs(number) >= 2**63) or (math.isinf(number) and "inf" not in bare):
            return self.refuse(place, f"{_shown(text)} is too large; write a number below 2^63")
        return number


def _read(path: Path) -> str:
    remedy = "name a run.yaml with --config, or write one: hpcens init"
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


def _compose(page: _Page, text: str) -> dict[str, Any]:
    """The document as plain data; what is wrong with single values is left on the page."""
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
        raise UsageError(f"{page.file}:{mark.line + 1 if mark else 1}: is not YAML: {what}", remedy) from None
    except ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        what = f"{page.file}:{line}: holds a character that YAML does not allow: {_shown(text[error.position])}"
        raise UsageError(what, "remove it") from None
    except RecursionError:
        raise UsageError(f"{page.file}: is nested too deeply", "flatten it") from None
    except (ValueError, OverflowError) as error:  # "\UFFFFFFFF", which PyYAML does not catch
        raise UsageError(f"{page.file}: is not YAML: {error}", "check the \\U escapes in double quotes") from None
    if root is None:
        raise UsageError(f"{page.file}:1: is empty", "write a commented example to start from: hpcens init")
    tree = page.value(root, root.start_mark.line + 1)
    if not isinstance(tree, dict):
        page.problem((), "the file must be a mapping of keys to values; for a commented example: hpcens init")
        raise page.error()
    return tree


def _usable_name(name: str) -> bool:
    fits = 0 < len(name) <= 100 and name.isprintable() and name == name.strip()
    return fits and "/" not in name and name not in (".", "..")


def _import_path(factory: str) -> bool:
    module, _, attribute = factory.partition(":")
    parts = [*module.split("."), *attribute.split(".")]
    return all(part.isidentifier() and not iskeyword(part) for part in parts)


class _Key(NamedTuple):
    """A key a user may write: an example of it, and where its type admits more than is allowed, the limit."""

    example: str
    holds: Callable[[Any], bool] = lambda value: True
    otherwise: str = ""
    choices: tuple[str, ...] = ()


def _count(example: str) -> _Key:
    return _Key(example, lambda n: n >= 1, "must be 1 or more")


def _amount(example: str) -> _Key:
    return _Key(example, lambda n: 0 < n < math.inf, "must be above 0 and finite")


def _filled(example: str) -> _Key:
    return _Key(example, lambda v: len(v) > 0, "must not be empty")


def _choice(literal: object) -> _Key:
    return _Key(get_args(literal)[0], choices=get_args(literal))


_MEMBER = "{name: small, factory: models:build, weights: small.safetensors}"
_KEYS: Mapping[str, _Key] = {
    "members": _Key(f"[{_MEMBER}]", lambda members: len(members) > 0, "needs at least one member"),
    "members[]": _Key(_MEMBER),
    "members[].name": _Key("resnet50", _usable_name, 'must be 1 to 100 printable characters, no "/", not "." or ".."'),
    "members[].factory": _Key("models.resnet:build", _import_path, "must be an import path package.module:callable"),
    "members[].weights": _filled("weights/resnet50.safetensors"),
    "members[].arguments": _Key("{depth: 50}"),
    "members[].output": _choice(Space),
    "members[].weight": _Key("0.5", lambda weight: 0 <= weight < math.inf, "must be 0 or more and finite"),
    "dataset": _Key("images"),
    "dataset.input": _filled("images"),
    "classes": _Key("[cat, dog]", lambda classes: len(classes) >= 2, "needs at least 2 classes"),
    "classes[]": _Key("cat"),
    "rule": _Key("mean"),
    "rule.name": _choice(RuleName),
    "rule.space": _choice(Space),
    "devices": _Key("{cuda: all}"),
    "devices.cpu": _Key("2"),
    "devices.cpu.count": _count("2"),
    "devices.cpu.cores": _count("4"),
    "devices.cpu.memory": _amount("4GiB"),
    "devices.cuda": _Key("all"),
    "devices.cuda.count": _count("4"),
    "devices.cuda.memory": _amount("40GiB"),
    "plan": _Key("{planner: optimal}"),
    "plan.planner": _choice(PlannerName),
    "plan.batch_sizes": _filled("[8, 16, 32]"),
    "plan.batch_sizes[]": _count("32"),
    "output": _Key("predictions.h5"),
    "output.path": _filled("predictions.h5"),
    "output.datasets": _filled("[prediction, label]"),
    "output.datasets[]": _choice(OutputName),
    "fsync_seconds": _amount("2.0"),
}
_TYPES = {"string_type": "text", "int_type": "a whole number", "float_type": "a number", "tuple_type": "a list"}
_COMBINABLE = {"values": ("values",), "logits": ("logits",), "probabilities": ("logits", "probabilities")}


def load(path: Path) -> RunSpec:
    """The RunSpec of a YAML file; its relative paths are taken from the file's own folder.

    Raises UsageError naming all that is wrong at once, a line each: `run.yaml:12: members[2].wieghts: unknown key; …`.
    """
    from pydantic import TypeAdapter, ValidationError

    page = _Page(path)
    tree = _compose(page, _read(path))
    _expand(page, tree)
    try:
        # Through JSON, because only there strict types still let a mapping be a dataclass and a list a tuple.
        spec = TypeAdapter(RunSpec).validate_json(json.dumps(tree), strict=True)
    except ValidationError as error:
        for flaw in error.errors(include_url=False, include_context=False):
            _explain(page, flaw["type"], flaw["loc"], flaw["input"])
    _check_values(page, tree)
    _check_ensemble(page, tree)
    if page.problems:
        raise page.error()
    folder = Path(os.path.abspath(path)).parent
    output = spec.output
    if "datasets" not in tree.get("output", {}) and all(member.output == "values" for member in spec.members):
        output = replace(output, datasets=("prediction",))  # members that do not classify have no label
    if output.path is not None:
        output = replace(output, path=folder / os.path.expanduser(output.path))
    return replace(
        spec,
        members=tuple(replace(m, weights=folder / os.path.expanduser(m.weights)) for m in spec.members),
        plan=replace(spec.plan, batch_sizes=tuple(sorted(spec.plan.batch_sizes))),
        output=output,
        search_path=folder,
    )


def _expand(page: _Page, tree: dict[str, Any]) -> None:
    """Writes the shorthands out, in place; a section left empty is as good as absent."""
    if "search_path" in tree:  # a field of RunSpec, but not the user's to set
        _explain(page, "unexpected_keyword_argument", ("search_path",), tree.pop("search_path"))
    for key in [key for key, value in tree.items() if value is None and key in _KEYS]:
        del tree[key]
    for key, field in (("rule", "name"), ("dataset", "input"), ("output", "path")):
        if isinstance(tree.get(key), str):
            tree[key] = {field: tree[key]}
    if type(number := tree.get("classes")) is int:
        if 2 <= number <= _MOST_CLASSES:
            tree["classes"] = [str(i) for i in range(number)]
        else:
            page.refuse(("classes",), f"{number} is not 2 to {_MOST_CLASSES}; for example classes: 10")
    if isinstance(devices := tree.get("devices"), dict):
        for kind in devices.keys() & {"cpu", "cuda"}:
            _expand_device(page, devices, kind)


def _expand_device(page: _Page, devices: dict[str, Any], kind: str) -> None:
    place = ("devices", kind)
    device = devices[kind]
    if device is None and place not in page.refused:
        page.refuse(place, f"is empty; write for example {kind}: {_KEYS[_pattern(place)].example}, or remove the key")
    if type(device) is int or (kind, device) == ("cuda", "all"):
        devices[kind] = device = {"count": device}
    if not isinstance(device, dict):
        return
    if kind == "cuda" and device.get("count") == "all":
        device["count"] = None
    memory = device.get("memory")
    if isinstance(memory, str | float):
        device["memory"] = _bytes(memory)
        if device["memory"] is None:
            page.refuse((*place, "memory"), f"{_shown(memory)} is no amount of memory; for example 4GiB or 500 MB")


def _bytes(memory: str | float) -> int | None:
    found = _SIZE.fullmatch(str(memory).strip())
    unit = _UNITS.get(found[2][:1].upper() + found[2][1:]) if found else None
    size = float(found[1]) * unit if found and unit else 0.0
    whole = size.is_integer() or unit != 1  # 1.5 bytes are a forgotten unit
    return round(size) if whole and 1 <= size < 2**63 else None


def _pattern(place: Place) -> str:
    return "".join("[]" if isinstance(part, int) else f".{part}" for part in place).removeprefix(".")


def _example(place: Place) -> str:
    key = f"{place[-1]}: " if isinstance(place[-1], str) else ""
    return f"for example {key}{_KEYS[_pattern(place)].example}"


def _did_you_mean(word: object, known: Iterable[str]) -> str:
    close = get_close_matches(word[:60].lower(), known, 1) if isinstance(word, str) else []
    return f'did you mean "{close[0]}"?' if close else ""


def _explain(page: _Page, kind: str, place: Place, given: object) -> None:
    """Puts one finding of pydantic on the page, in plain words."""
    if kind == "unexpected_keyword_argument":
        parent, name = _pattern(place[:-1]), str(place[-1])
        keys = [(folder, key) for folder, _, key in (key.rpartition(".") for key in _KEYS) if not key.endswith("]")]
        known = [key for folder, key in keys if folder == parent]
        home = next((f"it belongs under {folder or 'the top level'}" for folder, key in keys if key == name), "")
        page.problem(place, f"unknown key; {home or _did_you_mean(name, known) or 'known here: ' + ', '.join(known)}")
    elif place in page.refused:
        return
    elif kind == "missing":
        page.refuse(place, f"is missing; {_example(place)}")
    elif kind == "literal_error":
        choices = _KEYS[_pattern(place)].choices
        remedy = _did_you_mean(given, choices) or _example(place)
        page.refuse(place, f"{_shown(given)} is not one of {', '.join(choices)}; {remedy}")
    else:
        quotes = "put it in quotes, " if kind == "string_type" and isinstance(given, bool | int | float) else ""
        expected = _TYPES.get(kind, "a mapping (key: value)")
        page.refuse(place, f"expected {expected}, not {_shown(given)}; {quotes}{_example(place)}")


def _check_values(page: _Page, value: Any, place: Place = ()) -> None:
    """Limits that a type cannot say, of each value by itself."""
    key = _KEYS.get(_pattern(place))
    if value is None or place in page.refused:
        return
    if key and not key.holds(value):
        shown = "" if isinstance(value, list) else f"{_shown(value)} "
        page.refuse(place, f"{shown}{key.otherwise}; {_example(place)}")
    elif isinstance(value, dict | list):
        for part, inner in value.items() if isinstance(value, dict) else enumerate(value):
            _check_values(page, inner, (*place, part))


def _check_ensemble(page: _Page, tree: dict[str, Any]) -> None:
    """What must fit together, as far as the parts are known: a refused part takes no part."""

    def at(place: Place, parent: Any, default: Any = None) -> Any:
        return parent.get(place[-1], default) if isinstance(parent, dict) and place not in page.refused else None

    def of_members(key: str, default: Any = None) -> dict[int, Any]:
        found = {i: at(("members", i, key), m, default) for i, m in enumerate(at(("members",), tree) or ())}
        return {i: value for i, value in found.items() if value is not None}

    outputs = of_members("output", MemberSpec.__dataclass_fields__["output"].default)
    rule = at(("rule",), tree, {})
    name = at(("rule", "name"), rule, RuleSpec().name)
    space = at(("rule", "space"), rule) or ("values" if set(outputs.values()) == {"values"} else "probabilities")
    for i, output in outputs.items():
        place = ("members", i, "output")
        if name == "vote" and output == "values":
            page.problem(place, "rule vote counts classes, and values are none; write rule: mean, or logits here")
        elif output not in _COMBINABLE[space]:
            what = f"{output} cannot be combined as {space}"
            page.problem(place, f"{what}; set rule.space, or the members' output, so that all share one space")
    _check_weights(page, name, of_members("weight"), range(len(at(("members",), tree) or ())))
    datasets = at(("output", "datasets"), at(("output",), tree)) or []
    if "values" in outputs.values() and "label" in datasets:
        what = "label needs members that classify, and some give values; remove it"
        page.problem(("output", "datasets", datasets.index("label")), what)
    _check_unique(page, {("members", i, "name"): value for i, value in of_members("name").items()})
    lists: dict[Place, Any] = {
        ("classes",): at(("classes",), tree),
        ("plan", "batch_sizes"): at(("plan", "batch_sizes"), at(("plan",), tree)),
        ("output", "datasets"): datasets,
    }
    for listed, values in lists.items():
        usable = {(*listed, i): value for i, value in enumerate(values or ())}
        _check_unique(page, {here: value for here, value in usable.items() if here not in page.refused})


def _check_weights(page: _Page, rule: str | None, weights: Mapping[int, float], members: Iterable[int]) -> None:
    places = {i: ("members", i, "weight") for i in members}
    if rule == "weighted":
        for i, place in places.items():
            if i not in weights and place not in page.refused and place[:2] not in page.refused:
                page.problem(place, f"is missing: rule weighted needs one of every member; {_example(place)}")
        if weights.keys() == places.keys() and weights and not 0 < sum(weights.values()) < math.inf:
            page.problem(("members",), f"the weights add up to {sum(weights.values())}; change some of them")
    elif rule:
        for i in weights:
            page.problem(places[i], f"is for rule weighted, but the rule is {rule}; remove it, or write rule: weighted")


def _check_unique(page: _Page, values: Mapping[Place, Any]) -> None:
    first: dict[Any, Place] = {}
    for place, value in values.items():
        if first.setdefault(value, place) != place:
            page.problem(place, f"{_shown(value)} is already {_dotted(first[value])}; remove it, or change one of them")


Stored = TypeVar("Stored", RunSpec, Job)


def spec_to_json(spec: RunSpec) -> str:
    """One line of JSON, from which spec_from_json makes an equal RunSpec."""
    return json.dumps(asdict(spec), default=os.fspath)


def spec_from_json(text: str) -> RunSpec:
    """Raises UsageError where the text is no RunSpec."""
    return _from_json(RunSpec, text)


def job_to_json(job: Job) -> str:
    """One line of JSON, from which job_from_json makes an equal Job."""
    return json.dumps(asdict(job), default=os.fspath)


def job_from_json(text: str) -> Job:
    """Raises UsageError where the text is no Job."""
    return _from_json(Job, text)


def _from_json(kind: type[Stored], text: str) -> Stored:
    from pydantic import TypeAdapter

    try:
        # Not validate_json: a path may hold bytes that are not UTF-8, which only Python's own JSON carries.
        return TypeAdapter(kind).validate_python(json.loads(text))
    except ValueError as error:
        raise UsageError(f"a stored {kind.__name__} cannot be read: {error}", "start a new run") from None


def find(option: Path | None) -> Path:
    """The configuration to use: --config, else ./hpcens.yaml, else $HPCENS_CONFIG.

    Raises UsageError where none of the three is given.
    """
    if option is not None:
        return option
    if (here := Path("hpcens.yaml")).exists():
        return here
    if named := os.environ.get("HPCENS_CONFIG"):
        return Path(named)
    raise UsageError(
        "no configuration: --config is not given, ./hpcens.yaml does not exist, $HPCENS_CONFIG is not set",
        "write one with hpcens init, or name one in any of these three places",
    )


def default_output(dataset: Path, limit: int | None) -> Path:
    """Where the result goes unless the configuration says: the working folder, named after the dataset."""
    first = "" if limit is None else f".first-{limit}"
    return Path.cwd() / f"{dataset.stem}{first}.predictions.h5"


def template() -> str:
    """A commented run.yaml with every key, for `hpcens init`."""
    from importlib import resources

    return resources.files("hpcens").joinpath("template.yaml").read_text("utf-8")
