"""Members: from an import path and a safetensors file to a torch module, its weights pinned by digest."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import json
import sys
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpcens.errors import MemberError
from hpcens.fingerprint import digest_file
from hpcens.specs import MemberSpec

if TYPE_CHECKING:
    import torch


def member_digests(spec: MemberSpec, search_path: Path) -> dict[str, str]:
    """What makes the member: digests of its weights and of the module its factory lies in. Imports no torch.

    Raises MemberError where either cannot be found.
    """
    return {
        "weights": _digest_file(spec),
        "code": _digest_code(spec, search_path),
        "factory": spec.factory,
        "arguments": json.dumps(spec.arguments, sort_keys=True),
    }


def digest_of(digests: dict[str, str]) -> str:
    """One digest of all that makes the member."""
    return hashlib.sha256(json.dumps(digests, sort_keys=True).encode()).hexdigest()[:32]


def _digest_file(spec: MemberSpec) -> str:
    try:
        return digest_file(spec.weights)
    except OSError as error:
        raise MemberError(
            f"member {spec.name}: weights {spec.weights}: {error.strerror}", "check members[].weights in the YAML"
        ) from None


def _digest_code(spec: MemberSpec, search_path: Path) -> str:
    module = spec.factory.partition(":")[0]
    _search(search_path)
    try:
        found = _find(module)
    except KeyError:  # a namespace package within another can be found only once that one is imported
        found = _import_around(module)
    if found is None:
        raise MemberError(
            f"member {spec.name}: there is no module {module!r}",
            f"factories are imported from {search_path} and from the Python path",
        )
    origin = Path(found.origin) if found.origin else None
    return hashlib.sha256(origin.read_bytes()).hexdigest() if origin and origin.is_file() else "built in"


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


def _search(path: Path) -> None:
    if str(path) not in sys.path:
        sys.path.insert(0, str(path))


def load(spec: MemberSpec, search_path: Path, digests: dict[str, str] | None = None) -> torch.nn.Module:
    """Build the module and load its weights, strictly; eval mode, on the CPU.

    digests  what `member_digests` gave when the run was planned: other weights are refused.
    Raises MemberError: not importable, does not build, weights do not match (the first keys are named).
    """
    import torch
    from safetensors.torch import load_file

    if digests is not None and _digest_file(spec) != digests["weights"]:
        raise MemberError(f"member {spec.name}: {spec.weights} changed since the run was planned", "run it again")
    factory = _factory(spec, search_path)
    try:
        module = factory(**spec.arguments)
    except Exception as error:
        raise MemberError(
            f"member {spec.name}: {spec.factory}({_arguments(spec)}) raised {type(error).__name__}: {error}",
            "check members[].factory and members[].arguments in the YAML",
        ) from error
    if not isinstance(module, torch.nn.Module):
        raise MemberError(f"member {spec.name}: {spec.factory} returned {type(module).__name__}, not a torch.nn.Module")
    try:
        state = load_file(spec.weights)
    except Exception as error:  # safetensors' errors share no base class but Exception
        raise MemberError(f"member {spec.name}: {spec.weights} is not a safetensors file: {error}") from error
    _match(spec, module.state_dict(), state)
    module.load_state_dict(state)
    return module.eval().requires_grad_(False)


def _factory(spec: MemberSpec, search_path: Path) -> Callable[..., Any]:
    _search(search_path)
    name, _, attribute = spec.factory.partition(":")
    try:
        found = getattr(importlib.import_module(name), attribute)
    except Exception as error:
        raise MemberError(
            f"member {spec.name}: cannot import {spec.factory}: {type(error).__name__}: {error}",
            f"factories are imported from {search_path} and from the Python path",
        ) from error
    if not callable(found):
        raise MemberError(f"member {spec.name}: {spec.factory} is not callable")
    return found  # type: ignore[no-any-return]


def _arguments(spec: MemberSpec) -> str:
    return ", ".join(f"{key}={value!r}" for key, value in spec.arguments.items())


def _match(spec: MemberSpec, wanted: dict[str, Any], given: dict[str, Any]) -> None:
    missing = [key for key in wanted if key not in given]
    extra = [key for key in given if key not in wanted]
    shapes = [
        f"{key} is {tuple(given[key].shape)} in the file, {tuple(wanted[key].shape)} in the module"
        for key in wanted
        if key in given and given[key].shape != wanted[key].shape
    ]
    faults = [f"missing {', '.join(missing[:3])}"] * bool(missing) + [f"unknown {', '.join(extra[:3])}"] * bool(extra)
    if faults or shapes:
        counts = f"{len(missing)} missing, {len(extra)} unknown, {len(shapes)} of another shape"
        raise MemberError(
            f"member {spec.name}: {spec.weights} does not fit {spec.factory} ({counts}): "
            + "; ".join(faults + shapes[:3]),
            "check the factory's arguments, or the weights file",
        )
