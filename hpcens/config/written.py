"""Write a RunSpec as the YAML that it can be read from."""

from __future__ import annotations

from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any

from hpcens.config.document import dump
from hpcens.errors import UsageError
from hpcens.specs import MemberSpec, RunSpec

_OWN = ("search_path", "assumed")  # of a RunSpec, but not the user's to set


def yaml_of(spec: RunSpec, folder: Path) -> str:
    """Return a configuration as YAML: what differs from a default, paths absolute.

    folder  where the YAML is to lie: code of the user's own is imported from there
    Raises UsageError where that code lies elsewhere.
    """
    _require_code(spec, folder)
    tree = {key: value for key, value in _plain(spec).items() if key not in _OWN}
    for member, written in zip(spec.members, tree["members"], strict=True):
        if not spec.assumed:
            written["output"] = member.output
        if member.weights is not None and member.loads_itself:
            written["weights"] = "factory"
        written.pop("featuriser", None)
    if spec.calibration is not None:
        tree["calibration"] = str(spec.calibration.path)
    tree["output"] = tree.get("output", {}) | {"datasets": [*spec.output.datasets], "dtype": spec.output.dtype}
    return dump(tree)


def _plain(value: Any) -> Any:
    """Return what differs from a default, as lists, mappings and text."""
    if is_dataclass(value) and not isinstance(value, type):
        return {
            each.name: _plain(found)
            for each in fields(value)
            if (found := getattr(value, each.name)) != each.default
            and (each.default_factory is MISSING or found != each.default_factory())
        }
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return str(value) if isinstance(value, Path) else value


def _require_code(spec: RunSpec, folder: Path) -> None:
    if folder == spec.search_path:
        return
    imported = [path for member in spec.members for path in _imported(member)]
    tops = [path.partition(":")[0].partition(".")[0] for path in imported]
    there = [top for top in tops if any((spec.search_path / name).exists() for name in (f"{top}.py", top))]
    if there or any(member.pickled is not None for member in spec.members):
        what = f"the code of members ({', '.join(dict.fromkeys(there)) or 'pickled'}) is imported from"
        raise UsageError(f"{folder}: {what} {spec.search_path}", "write the YAML into that folder: -o")


def _imported(member: MemberSpec) -> list[str]:
    factories = [member.factory, member.front.factory if member.featuriser is not None else None]
    return [*member.functions.values(), *(path for path in factories if path is not None)]
