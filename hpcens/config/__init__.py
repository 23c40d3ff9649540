"""Read a run.yaml into a RunSpec: once, at the edge, reporting every error with its line, its place and a remedy.

text ─page─► plain data ─expand─► shorthands written out ─pydantic─► RunSpec ─checks─► what types cannot say
pydantic and yaml load only when a file does.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, TypeVar

from hpcens.config.checks import check_ensemble, check_values, explain
from hpcens.config.document import Page, Place, compose, read, shown
from hpcens.config.keys import KEYS, pattern
from hpcens.config.member_checks import expand_member
from hpcens.errors import UsageError
from hpcens.specs import FILES, Job, MemberSpec, RunSpec

RESULT_SUFFIX = ".predictions.h5"
_MOST_CLASSES = 100_000
_SIZE = re.compile(r"(\d{1,20}(?:\.\d{1,20})?(?:[eE]\+?\d{1,2})?) *([A-Za-z]*)", re.ASCII)
_UNITS = {"": 1, "B": 1} | {p + i + "B": (1024 if i else 1000) ** n for n, p in enumerate("KMGT", 1) for i in ("", "i")}


def load(path: Path) -> RunSpec:
    """Read the RunSpec of a YAML file; its relative paths are taken from the file's own folder.

    Raises UsageError naming all that is wrong at once, a line each: `run.yaml:12: members[2].wieghts: unknown key; …`.
    """
    from pydantic import TypeAdapter, ValidationError

    page = Page(path)
    tree = compose(page, read(path))
    expand(page, tree)
    try:
        # Through JSON, because only there strict types still let a mapping be a dataclass and a list a tuple.
        spec = TypeAdapter(RunSpec).validate_json(json.dumps(tree), strict=True)
    except ValidationError as error:
        for flaw in error.errors(include_url=False, include_context=False):
            explain(page, flaw["type"], flaw["loc"], flaw["input"])
    check_values(page, tree)
    check_ensemble(page, tree)
    if page.problems:
        raise page.error()
    folder = Path(os.path.abspath(path)).parent
    output = spec.output
    if "datasets" not in tree.get("output", {}) and all(member.output == "values" for member in spec.members):
        output = replace(output, datasets=("prediction",))  # members that do not classify have no label
    if output.path is not None:
        output = replace(output, path=folder / os.path.expanduser(output.path))
    rule = spec.rule
    if rule.weights is not None:
        rule = replace(rule, weights=folder / os.path.expanduser(rule.weights))
    return replace(
        spec,
        rule=rule,
        members=tuple(_absolute(folder, member) for member in spec.members),
        plan=replace(spec.plan, batch_sizes=tuple(sorted(spec.plan.batch_sizes))),
        output=output,
        search_path=folder,
    )


def _absolute(folder: Path, member: MemberSpec) -> MemberSpec:
    """Return the member with its files' paths made absolute."""
    files = {key: getattr(member, key) for key in FILES}
    return replace(member, **{k: folder / os.path.expanduser(file) for k, file in files.items() if file is not None})


def expand(page: Page, tree: dict[str, Any]) -> None:
    """Write the shorthands of a document out, in place; a section left empty is as good as absent."""
    if "search_path" in tree:  # a field of RunSpec, but not the user's to set
        explain(page, "unexpected_keyword_argument", ("search_path",), tree.pop("search_path"))
    for key in [key for key, value in tree.items() if value is None and key in KEYS]:
        del tree[key]
    for key, field in (("rule", "name"), ("dataset", "input"), ("output", "path")):
        _expand_text(tree, key, field)
    if isinstance(dataset := tree.get("dataset"), dict):
        _expand_text(dataset, "select", "path")
        if isinstance(inputs := dataset.get("inputs"), dict):
            for name in inputs:
                _expand_text(inputs, name, "path")
    if isinstance(slurm := tree.get("slurm"), dict):
        expand_slurm(page, slurm)
    if type(number := tree.get("classes")) is int:
        if 2 <= number <= _MOST_CLASSES:
            tree["classes"] = [str(i) for i in range(number)]
        else:
            page.refuse(("classes",), f"{number} is not 2 to {_MOST_CLASSES}; for example classes: 10")
    if isinstance(output := tree.get("output"), dict) and isinstance(output.get("compression"), str):
        output["compression"] = {"name": output["compression"]}
    for i, member in enumerate(members if isinstance(members := tree.get("members"), list) else ()):
        if isinstance(member, dict):
            expand_member(page, ("members", i), member)
    if isinstance(devices := tree.get("devices"), dict):
        for kind in devices.keys() & {"cpu", "cuda"}:
            _expand_device(page, devices, kind)
    for name, nodes in tree["cluster"].items() if isinstance(tree.get("cluster"), dict) else ():
        if isinstance(nodes, dict):
            _expand_memory(page, nodes, ("cluster", name))


def _expand_text(tree: dict[str, Any], key: str, field: str) -> None:
    if isinstance(tree.get(key), str):
        tree[key] = {field: tree[key]}


def _expand_device(page: Page, devices: dict[str, Any], kind: str) -> None:
    place = ("devices", kind)
    device = devices[kind]
    if device is None and place not in page.refused:
        page.refuse(place, f"is empty; write for example {kind}: {KEYS[pattern(place)].example}, or remove the key")
    if type(device) is int or (kind, device) == ("cuda", "all"):
        devices[kind] = device = {"count": device}
    if not isinstance(device, dict):
        return
    if kind == "cuda" and device.get("count") == "all":
        device["count"] = None
    _expand_memory(page, device, place)


def expand_slurm(page: Page, slurm: dict[str, Any]) -> None:
    """Write the shorthands of a `slurm:` section out, in place."""
    for key in [key for key, value in slurm.items() if value is None]:
        del slurm[key]
    _expand_memory(page, slurm, ("slurm",))
    for key in ("time", "account", "partition", "qos", "constraint", "mpi"):
        if type(slurm.get(key)) is int:  # 90 minutes, or an account that is a number
            slurm[key] = str(slurm[key])
    if isinstance(slurm.get("setup"), str):
        slurm["setup"] = slurm["setup"].splitlines()


def _expand_memory(page: Page, parent: dict[str, Any], place: Place) -> None:
    memory = parent.get("memory")
    if isinstance(memory, str | float):
        parent["memory"] = _bytes(memory)
        if parent["memory"] is None:
            page.refuse((*place, "memory"), f"{shown(memory)} is no amount of memory; for example 4GiB or 500 MB")


def _bytes(memory: str | float) -> int | None:
    """Return an amount of memory in bytes; None where it is none."""
    amount = _SIZE.fullmatch(str(memory).strip())
    unit = _UNITS.get(amount[2][:1].upper() + amount[2][1:]) if amount else None
    size = float(amount[1]) * unit if amount and unit else 0.0
    whole = size.is_integer() or unit != 1  # 1.5 bytes are a forgotten unit
    return round(size) if whole and 1 <= size < 2**63 else None


Stored = TypeVar("Stored", RunSpec, Job)


def spec_to_json(spec: RunSpec) -> str:
    """Write a RunSpec as one line of JSON, from which spec_from_json makes an equal one."""
    return json.dumps(asdict(spec), default=os.fspath)


def spec_from_json(text: str) -> RunSpec:
    """Read a stored RunSpec. Raises UsageError where the text is none."""
    return _from_json(RunSpec, text)


def job_to_json(job: Job) -> str:
    """Write a Job as one line of JSON, from which job_from_json makes an equal one."""
    return json.dumps(asdict(job), default=os.fspath)


def job_from_json(text: str) -> Job:
    """Read a stored Job. Raises UsageError where the text is none."""
    return _from_json(Job, text)


def _from_json(kind: type[Stored], text: str) -> Stored:
    from pydantic import TypeAdapter

    try:
        # Not validate_json: a path may hold bytes that are not UTF-8, which only Python's own JSON carries.
        return TypeAdapter(kind).validate_python(json.loads(text))
    except ValueError as error:
        raise UsageError(f"a stored {kind.__name__} cannot be read: {error}", "start a new run") from None


def find(option: Path | None) -> Path:
    """Return the configuration to use: --config, else ./hpcens.yaml, else $HPCENS_CONFIG.

    Raises UsageError where none of the three is given.
    """
    if option is not None:
        return option
    if (local := Path("hpcens.yaml")).exists():
        return local
    if named := os.environ.get("HPCENS_CONFIG"):
        return Path(named)
    raise UsageError(
        "no configuration: --config is not given, ./hpcens.yaml does not exist, $HPCENS_CONFIG is not set",
        "write one with hpcens init, or name one in any of these three places",
    )


def default_output(datasets: Sequence[Path], limit: int | None) -> Path:
    """Return where the result goes unless the configuration says: the working folder, named after the first dataset.

    limit  number of rows that are scored; None: all
    """
    more = "" if len(datasets) == 1 else f".and-{len(datasets) - 1}-more"
    first = "" if limit is None else f".first-{limit}"
    return Path.cwd() / f"{datasets[0].stem}{more}{first}{RESULT_SUFFIX}"


def template() -> str:
    """Return a commented run.yaml with every key, for `hpcens init`."""
    from importlib import resources

    return resources.files("hpcens.config").joinpath("template.yaml").read_text("utf-8")
