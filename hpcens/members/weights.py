"""Weights: state dicts from safetensors and torch files, and from within checkpoints.

Nothing is unpickled but what torch admits under weights_only, unless the member is trusted by name.
"""

from __future__ import annotations

import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpcens.errors import MemberError
from hpcens.shell import listed
from hpcens.specs import MemberSpec
from hpcens.usercode import describe_exception

if TYPE_CHECKING:
    import torch

State = Mapping[str, "torch.Tensor"]

TORCH = "a torch file"
_KINDS = {
    "a TorchScript file": "torchscript",
    "an exported program": "exported",
    "a safetensors file": "weights",
    TORCH: "weights (a state dict) or pickled (a whole module)",
}
"""What a file may turn out to be, and the member's key it belongs under."""


def kind_of(path: Path) -> str:
    """Tell what a file is, by its content: a key of `_KINDS`, or an unknown format."""
    with path.open("rb") as file:
        head = file.read(9)
    if head[8:9] == b"{":
        return "a safetensors file"
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            names = {name.partition("/")[2] for name in archive.namelist()} | set(archive.namelist())
        if "constants.pkl" in names:
            return "a TorchScript file"
        if "data.pkl" in names:
            return TORCH
        return "an exported program" if names & {"archive_format", "serialized_exported_program.json"} else "a zip file"
    return TORCH if head[:1] == b"\x80" else "of an unknown format"


def misplaced(spec: MemberSpec, error: BaseException) -> MemberError:
    """Return the error for a file that is not what its key says: what it is, and where it belongs."""
    kind = kind_of(spec.file)
    key = "weights" if spec.source == "factory" else spec.source
    home = _KINDS.get(kind, "")
    if home and home != key and key not in home.split():
        return MemberError(f"member {spec.name}: {spec.file} is {kind}", f"give it as {home}: in the YAML, not {key}:")
    reason = str(error).partition("\n")[0]
    return MemberError(f"member {spec.name}: {spec.file} is {kind} and cannot be read: {reason}", "it may be damaged")


def read_state(spec: MemberSpec) -> State:
    """Read the state dict in the member's weights file. Raises MemberError where it holds none."""
    if kind_of(spec.file) == TORCH:
        return _state_in(spec, unpickle(spec))
    from safetensors.torch import load_file

    if spec.weights is not None and spec.weights.key is not None:
        raise MemberError(
            f"member {spec.name}: {spec.file} is a safetensors file, which holds one state dict alone",
            "remove members[].weights.key",
        )
    try:
        return load_file(spec.file)
    except Exception as error:  # safetensors' errors share no base class but Exception
        raise misplaced(spec, error) from error


def unpickle(spec: MemberSpec) -> Any:
    """Load what a torch file holds, on the CPU; any object only where the member is trusted by name."""
    import torch

    trusted = spec.unpickles
    try:
        with spec.file.open("rb") as file:  # by its name alone, torch would take it for another format
            return torch.load(file, map_location="cpu", weights_only=not trusted)
    except pickle.UnpicklingError as error:
        if trusted:
            raise misplaced(spec, error) from error
        named = re.search(r"GLOBAL ([\w.]+)", str(error))
        raise refused(spec, f"an object of {named[1]}" if named else "objects other than tensors") from None
    except (Exception, SystemExit) as error:
        if trusted and kind_of(spec.file) == TORCH:
            raise MemberError(
                f"member {spec.name}: unpickling {spec.file} failed: {describe_exception(error)}",
                "the classes of what was pickled must be importable from the folder of the YAML",
            ) from error
        raise misplaced(spec, error) from error


def refused(spec: MemberSpec, content: str) -> MemberError:
    """Return the error for a file that would have to be unpickled: what it holds, and both remedies."""
    return MemberError(
        f"member {spec.name}: {spec.file} holds {content}; unpickling it could run any code",
        "save only the weights: torch.save(module.state_dict(), FILE), or safetensors;"
        f" or, if you trust the file, write trust: pickle for member {spec.name}",
    )


def _state_in(spec: MemberSpec, content: Any) -> State:
    """Return the state dict in a torch file: the whole of it, or the only one in a checkpoint."""
    import torch

    if isinstance(content, torch.nn.Module):
        return content.state_dict()
    if not isinstance(content, Mapping):
        raise MemberError(
            f"member {spec.name}: {spec.file} holds {type(content).__name__}, not a state dict",
            "save it with torch.save(module.state_dict(), FILE)",
        )
    key = spec.weights.key if spec.weights is not None else None
    if key is not None:
        return _under(spec, content, key)
    if _is_state(content):
        return content
    inner = [key for key, value in content.items() if isinstance(value, Mapping) and _is_state(value)]
    if len(inner) != 1:
        what = f"several state dicts ({listed([*map(str, inner)])})" if inner else "no state dict"
        keys = listed([*map(str, content)])
        named = inner[0] if inner else "KEY"
        raise MemberError(
            f"member {spec.name}: {spec.file} holds {what} under its keys {keys}",
            f"name the one that is meant: weights: {{path: {spec.file.name}, key: {named}}}",
        )
    state: State = content[inner[0]]
    return state


def _under(spec: MemberSpec, content: Mapping[Any, Any], key: str) -> State:
    """Return the state dict under a key, whose dots lead deeper where it is not there as it is written."""
    value: Any = content
    for part in [key] if key in content else key.split("."):
        inner = value.get(part) if isinstance(value, Mapping) else None
        if inner is None:
            keys = listed([*map(str, value)]) if isinstance(value, Mapping) else type(value).__name__
            raise MemberError(
                f"member {spec.name}: {spec.file} holds nothing under {key}: it has no {part} among {keys}",
                "correct members[].weights.key",
            )
        value = inner
    value = value.state_dict() if hasattr(value, "state_dict") else value
    if not (isinstance(value, Mapping) and _is_state(value)):
        raise MemberError(
            f"member {spec.name}: {spec.file} holds {type(value).__name__} under {key}, not a state dict",
            "correct members[].weights.key",
        )
    return value


def _is_state(content: Mapping[Any, Any]) -> bool:
    import torch

    return bool(content) and all(
        isinstance(key, str) and (isinstance(value, torch.Tensor) or _is_extra(key)) for key, value in content.items()
    )


def _is_extra(key: str) -> bool:
    """Tell whether torch keeps something other than a tensor under such a key of a state dict."""
    return key.rpartition(".")[2] == "_extra_state" or "_packed_params" in key.split(".")
