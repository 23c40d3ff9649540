"""Weights: state dicts from safetensors and torch files, checked against the module key by key.

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
from hpcens.specs import MemberSpec
from hpcens.usercode import describe_exception

if TYPE_CHECKING:
    import torch

State = Mapping[str, "torch.Tensor"]

_TORCH = "a torch file"
_KINDS = {
    "a TorchScript file": "torchscript",
    "an exported program": "exported",
    "a safetensors file": "weights",
    _TORCH: "weights (a state dict) or pickled (a whole module)",
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
            return _TORCH
        return "an exported program" if names & {"archive_format", "serialized_exported_program.json"} else "a zip file"
    return _TORCH if head[:1] == b"\x80" else "of an unknown format"


def misplaced(spec: MemberSpec, error: BaseException) -> MemberError:
    """Return the error for a file that is not what its key says: what it is, and where it belongs."""
    kind = kind_of(spec.file)
    key = "weights" if spec.source == "factory" else spec.source
    home = _KINDS.get(kind, "")
    if home and home != key and key not in home.split():
        return MemberError(f"member {spec.name}: {spec.file} is {kind}", f"give it as {home}: in the YAML, not {key}:")
    reason = str(error).partition("\n")[0]
    return MemberError(f"member {spec.name}: {spec.file} is {kind} and cannot be read: {reason}", "it may be damaged")


def load_weights(spec: MemberSpec, module: torch.nn.Module) -> None:
    """Put the member's weights into its module, strictly.

    Raises MemberError: not a file of weights, refused for what it would unpickle, does not match (first keys named).
    """
    state = read_state(spec)
    _match(spec, module.state_dict(), state)
    _keep_complex(spec, module.state_dict(), state)
    module.load_state_dict(state)


def read_state(spec: MemberSpec) -> State:
    """Read the state dict in the member's weights file. Raises MemberError where it holds none."""
    if kind_of(spec.file) == _TORCH:
        return _state_in(spec, unpickle(spec))
    from safetensors.torch import load_file

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
        if trusted and kind_of(spec.file) == _TORCH:
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
    if _is_state(content):
        return content
    inner = [key for key, value in content.items() if isinstance(value, Mapping) and _is_state(value)]
    if len(inner) != 1:
        what = f"several state dicts ({', '.join(map(str, inner[:5]))})" if inner else "no state dict"
        keys = ", ".join(map(str, list(content)[:5]))
        raise MemberError(
            f"member {spec.name}: {spec.file} holds {what} under its keys {keys}",
            "save the one that is meant by itself: torch.save(checkpoint[KEY], FILE)",
        )
    state: State = content[inner[0]]
    return state


def _is_state(content: Mapping[Any, Any]) -> bool:
    import torch

    return bool(content) and all(isinstance(k, str) and isinstance(v, torch.Tensor) for k, v in content.items())


def _keep_complex(spec: MemberSpec, wanted: State, stored: State) -> None:
    """Raise MemberError where a complex number would be put into a real one: its imaginary part would be dropped."""
    lost = [key for key in wanted if key in stored and stored[key].is_complex() and not wanted[key].is_complex()]
    if lost:
        raise MemberError(
            f"member {spec.name}: {spec.file} does not fit {spec.factory}: {', '.join(lost[:3])} is complex in"
            " the file, real in the module",
            "check the factory's arguments, or the weights file",
        )


def _match(spec: MemberSpec, wanted: State, stored: State) -> None:
    """Raise MemberError where the stored state is not one of the module, whose own is wanted."""
    missing = [key for key in wanted if key not in stored]
    extra = [key for key in stored if key not in wanted]
    shapes = [
        f"{key} is {tuple(stored[key].shape)} in the file, {tuple(wanted[key].shape)} in the module"
        for key in wanted
        if key in stored and stored[key].shape != wanted[key].shape
    ]
    faults = [f"missing {', '.join(missing[:3])}"] * bool(missing) + [f"unknown {', '.join(extra[:3])}"] * bool(extra)
    if faults or shapes:
        counts = f"{len(missing)} missing, {len(extra)} unknown, {len(shapes)} of another shape"
        raise MemberError(
            f"member {spec.name}: {spec.file} does not fit {spec.factory} ({counts}): "
            + "; ".join(faults + shapes[:3]),
            "check the factory's arguments, or the weights file",
        )
