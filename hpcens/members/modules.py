"""Modules: networks built by a user's factory, or unpickled whole where the member is trusted by name."""

from __future__ import annotations

from collections.abc import Callable
from inspect import signature
from pathlib import Path
from typing import Any

import torch

from hpcens.errors import MemberError, MemberMisnamed
from hpcens.members.casting import cast_module
from hpcens.members.fitting import load_weights, state_digest
from hpcens.members.network import Network
from hpcens.members.weights import refused, unpickle
from hpcens.specs import MemberSpec
from hpcens.usercode import add_to_path, describe_exception, import_member_code


def load_module(spec: MemberSpec, search_path: Path) -> Network:
    """Build or unpickle a member's module, with its weights and in eval mode.

    Raises MemberError: the factory cannot be imported, raises, exits or gives something else; see `weights`.
    """
    notes: tuple[str, ...] = ()
    if spec.factory is None:
        module = _unpickled(spec, search_path)
    else:
        module = _built(spec, spec.factory, search_path)
        if spec.computes_in == "float64":  # before: weights of float64 would be rounded to what the factory builds
            cast_module(module, torch.float64)
        if spec.loads_itself:
            return Network(module.eval().requires_grad_(False), state=state_digest(module))
        notes = load_weights(spec, module)
    return Network(module.eval().requires_grad_(False), notes=notes)


def _built(spec: MemberSpec, factory: str, search_path: Path) -> torch.nn.Module:
    make = import_member_code(f"member {spec.name}", factory, search_path)
    _require_taken(spec, factory, make)
    try:
        module = make(**spec.arguments)
    except (Exception, SystemExit) as error:
        arguments = ", ".join(f"{key}={value!r}" for key, value in spec.arguments.items())
        raise MemberError(
            f"member {spec.name}: {factory}({arguments}) raised {describe_exception(error)}",
            "check members[].factory and members[].arguments in the YAML",
        ) from error
    if not isinstance(module, torch.nn.Module):
        raise MemberError(
            f"member {spec.name}: {factory} returned {type(module).__name__}, not a torch.nn.Module",
            "let it return the module",
        )
    return module


def _require_taken(spec: MemberSpec, factory: str, make: Callable[..., Any]) -> None:
    """Raise MemberMisnamed where a factory does not take the arguments of the YAML, before it is called."""
    try:
        taken = signature(make)
    except (TypeError, ValueError):  # of some built-in functions it is not known
        return
    try:
        taken.bind(**spec.arguments)
    except TypeError as error:
        names = [name for name in taken.parameters if name not in ("args", "kwargs")]
        arguments = ", ".join(f"{key}={value!r}" for key, value in spec.arguments.items())
        raise MemberMisnamed(
            f"member {spec.name}: {factory}({arguments}): {error}",
            f"correct members[].arguments in the YAML; {factory} takes {', '.join(names) or 'none'}",
        ) from None


def _unpickled(spec: MemberSpec, search_path: Path) -> torch.nn.Module:
    if not spec.unpickles:
        raise refused(spec, "a pickled module")
    add_to_path(search_path)
    module = unpickle(spec)
    if not isinstance(module, torch.nn.Module):
        raise MemberError(
            f"member {spec.name}: {spec.file} holds {type(module).__name__}, not a module",
            "a state dict belongs under weights:, beside the factory that builds its module",
        )
    return module
