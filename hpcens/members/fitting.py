"""Fitting: a state dict into a module, as torch's own `load_state_dict` judges it, strictly and with all its hooks.

What is more than that: tied weights may be saved once, and prefixes that wrappers leave are taken off where they are
the only difference.
"""

from __future__ import annotations

import hashlib
import io
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import torch

from hpcens.errors import MemberError
from hpcens.members.weights import TORCH, State, kind_of, read_state
from hpcens.shell import LISTED, listed
from hpcens.specs import MemberSpec

# Left by DataParallel and AveragedModel, by Lightning and others, and by torch.compile.
_PREFIXES = ("module.", "model.", "_orig_mod.")
_MOST_PREFIXES = 3
_NAMED = 3  # keys that an error lists of each kind
_COUNTER = "n_averaged"  # which AveragedModel saves beside the module


@dataclass(frozen=True, slots=True)
class Misfit:
    """Why a state dict does not fit: keys that are missing, keys that are unknown, and other faults in words."""

    missing: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    others: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.missing or self.unknown or self.others)


def load_weights(spec: MemberSpec, module: torch.nn.Module) -> tuple[str, ...]:
    """Put the member's weights into its module; return what is to be said of it.

    Raises MemberError: not a file of weights, refused for what it would unpickle, does not fit (first keys named).
    """
    assert spec.weights is not None, "the configuration was checked"
    state = read_state(spec)
    left_out: list[str] = []
    if (prefix := spec.weights.prefix) is not None:
        left_out = [key for key in state if not key.startswith(prefix)]
        state = _without(prefix, state)
        if not state:
            raise MemberError(
                f"member {spec.name}: {spec.file} holds no key that begins with {prefix}",
                f"correct members[].weights.prefix; its keys are {listed(left_out)}{_whole(spec, left_out)}",
            )
    misfit = _fit(module, state)
    notes: tuple[str, ...] = ()
    if misfit and prefix is None:
        for taken_off, bare in _bare(state):
            if not _fit(module, bare):
                misfit, notes = Misfit(), (f"all keys of its weights begin with {taken_off}, which is left out",)
                break
        else:
            misfit = _fit(module, state)  # which says what is wrong with the module as it is left
    unknown = [*left_out, *((prefix or "") + key for key in misfit.unknown)]
    refused = tuple(key for key in unknown if not _matches(key, spec.weights.ignore))
    if idle := [pattern for pattern in spec.weights.ignore if not any(fnmatchcase(key, pattern) for key in unknown)]:
        raise MemberError(
            f"member {spec.name}: weights.ignore names {idle[0]}, and no unexpected key of {spec.file} is such",
            f"remove it, or correct it; unexpected are: {listed(unknown) or 'none'}{_whole(spec, unknown)}",
        )
    misfit = Misfit(misfit.missing, refused, misfit.others)
    if misfit:
        raise _refusal(spec, module, misfit, read_state(spec))
    return notes


def state_digest(module: torch.nn.Module) -> str:
    """Return the SHA-256 of a module's state dict: keys, types, shapes and bytes."""
    digest = hashlib.sha256()
    for key, value in module.state_dict().items():
        digest.update(f"{key}\0".encode())
        if isinstance(value, torch.Tensor) and value.layout == torch.strided and not value.is_quantized:
            digest.update(f"{value.dtype}{tuple(value.shape)}".encode())
            digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
        else:
            saved = io.BytesIO()
            torch.save(value, saved)
            digest.update(saved.getvalue())
    return digest.hexdigest()


def joined_state(own: str, of_features: str) -> str:
    """Return one digest of the weights that a member's factory and that of its features have loaded; empty for none."""
    return hashlib.sha256(f"{own} {of_features}".encode()).hexdigest() if of_features else own


def _fit(module: torch.nn.Module, state: State) -> Misfit:
    """Load a state dict as far as it fits; return why it does not."""
    own = module.state_dict(keep_vars=True)
    lost = [key for key, value in state.items() if _is_complex(value) and key in own and not _is_complex(own[key])]
    if lost:
        return Misfit(others=(f"{listed(lost, 3)} is complex in the file, real in the module",))
    try:
        result = module.load_state_dict(state, strict=False)
    except RuntimeError as error:
        missing = tuple(key for key in own if key not in state)
        shapes = tuple(_shapes(own, state))
        lines = [line.strip() for line in str(error).splitlines()[1:]]
        unknown = tuple(key for key in state if key not in own)
        return Misfit(missing, unknown, shapes or tuple(lines) or (str(error),))
    except Exception as error:  # whatever hooks of the module's own raise
        return Misfit(others=(f"{type(error).__name__}: {error}",))
    missing = tuple(key for key in result.missing_keys if key not in _tied(module, state))
    return Misfit(missing, tuple(result.unexpected_keys))


def _is_complex(value: object) -> bool:
    return isinstance(value, torch.Tensor) and value.is_complex()


def _shapes(own: Mapping[str, Any], state: State) -> Iterator[str]:
    for key, value in own.items():
        stored = state.get(key)
        if not isinstance(value, torch.Tensor) or not isinstance(stored, torch.Tensor) or _is_lazy(value):
            continue
        if stored.shape != value.shape:
            yield f"{key} is {tuple(stored.shape)} in the file, {tuple(value.shape)} in the module"


def _is_lazy(value: torch.Tensor) -> bool:
    return torch.nn.parameter.is_lazy(value)


def _tied(module: torch.nn.Module, state: State) -> set[str]:
    """Return the keys of tensors that lie in the memory of one that the state holds: to save one is enough."""
    own = {k: v for k, v in module.state_dict(keep_vars=True).items() if isinstance(v, torch.Tensor)}
    whole = {_memory(value) for key, value in own.items() if key in state and _fills(value)}
    return {key for key, value in own.items() if _memory(value) in whole - {0}}


def _memory(value: torch.Tensor) -> int:
    """Return where the memory of a tensor begins; 0 where it has none."""
    strided = value.layout == torch.strided and not _is_lazy(value) and value.device.type != "meta"
    return value.untyped_storage().data_ptr() if strided else 0


def _fills(value: torch.Tensor) -> bool:
    """Tell whether a tensor takes all of its memory."""
    return _memory(value) != 0 and value.numel() * value.element_size() == value.untyped_storage().nbytes()


def _without(prefix: str, state: State) -> State:
    """Return the keys that begin with a prefix, without it; and what torch notes of the modules' versions."""
    bare: OrderedDict[str, Any] = OrderedDict(
        (key.removeprefix(prefix), value) for key, value in state.items() if key.startswith(prefix)
    )
    notes = getattr(state, "_metadata", None)
    if isinstance(notes, Mapping):
        inner = {"" if name + "." == prefix else name.removeprefix(prefix): note for name, note in notes.items()}
        bare._metadata = inner  # type: ignore[attr-defined]
    return bare


def _bare(state: State) -> Iterator[tuple[str, State]]:
    """Yield the state dict without the prefixes that all its keys begin with, one after another."""
    taken_off = ""
    for _ in range(_MOST_PREFIXES):
        keys = [key for key in state if key != _COUNTER]
        prefix = next((prefix for prefix in _PREFIXES if keys and all(key.startswith(prefix) for key in keys)), None)
        if prefix is None or (_COUNTER in state and prefix != "module."):
            return
        taken_off, state = taken_off + prefix, _without(prefix, state)
        yield taken_off, state


def _matches(key: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(key, pattern) for pattern in patterns)


def _whole(spec: MemberSpec, keys: Sequence[str], most: int = LISTED) -> str:
    """Return how to see all keys, as the rest of a remedy; empty where `most` are enough to list these."""
    if len(keys) <= most:
        return ""
    reader = "torch.load" if kind_of(spec.file) == TORCH else "safetensors.torch.load_file"
    of_module = f"print(*{(spec.factory or '').partition(':')[2]}(…).state_dict())"
    return f"\nto see all keys, in Python: of the file print(*{reader}({str(spec.file)!r})), of the module {of_module}"


def _refusal(spec: MemberSpec, module: torch.nn.Module, misfit: Misfit, state: State) -> MemberError:
    """Return the error for weights that do not fit: the first keys, and what to write where a prefix would do."""
    parts = [f"missing {listed(misfit.missing, _NAMED)}"] * bool(misfit.missing)
    parts += [f"unknown {listed(misfit.unknown, _NAMED)}"] * bool(misfit.unknown)
    kind = "of another shape" if all(" is (" in fault for fault in misfit.others) else "other"
    counts = f"{len(misfit.missing)} missing, {len(misfit.unknown)} unknown, {len(misfit.others)} {kind}"
    more = len(misfit.others) - _NAMED
    longest = max((misfit.missing, misfit.unknown, misfit.others), key=len)
    remedy = "check the factory's arguments, or the weights file"
    wanted = set(module.state_dict())
    for prefix in dict.fromkeys(key.partition(".")[0] + "." for key in state):
        others = [key for key in state if not key.startswith(prefix)]
        if wanted and others and wanted <= set(_without(prefix, state)):
            patterns = ", ".join(f'"{top}.*"' for top in dict.fromkeys(key.partition(".")[0] for key in others))
            remedy = f'write weights: {{path: {spec.file.name}, prefix: "{prefix}", ignore: [{patterns}]}}'
            break
    return MemberError(
        f"member {spec.name}: {spec.file} does not fit {spec.factory} ({counts}): "
        + "; ".join([*parts, *misfit.others[:_NAMED], *[f"{more} more {kind}"] * (more > 0)]),
        f"{remedy}{_whole(spec, longest, _NAMED)}",
    )
