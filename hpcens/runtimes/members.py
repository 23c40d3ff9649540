"""Members: from an import path and a safetensors file to a torch module, its weights pinned by digest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpcens.errors import MemberError
from hpcens.fingerprint import digest_file
from hpcens.imports import code_digest, import_callable
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
    digest = code_digest(spec.factory, search_path)
    if digest is None:
        raise MemberError(
            f"member {spec.name}: there is no module {spec.factory.partition(':')[0]!r}",
            f"factories are imported from {search_path} and from the Python path",
        )
    return digest


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
    try:
        return import_callable(spec.factory, search_path)
    except Exception as error:
        raise MemberError(
            f"member {spec.name}: cannot import {spec.factory}: {type(error).__name__}: {error}",
            f"factories are imported from {search_path} and from the Python path",
        ) from error


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
