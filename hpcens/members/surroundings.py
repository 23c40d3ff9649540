"""Surroundings: the state of the process that members share: torch's defaults and flags, chance, the environment.

What a member changes of it while it is imported, built, loaded or run is kept for that member alone, and put back for
the others: each runs as it would in a process of its own.
"""

from __future__ import annotations

import os
import random
import sys
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from hpcens.errors import MemberError
from hpcens.specs import MemberSpec

State = Mapping[str, Any]

_SET_BY_TORCH = ("TORCHINDUCTOR_", "TRITON_")  # where its compilers keep files, once they are imported


@dataclass(frozen=True, slots=True)
class _Part:
    """A part of the state.

    read   returns it, as something that can be compared
    write  puts it back
    """

    read: Callable[[], Any]
    write: Callable[[Any], object]


def _attribute(owner: Any, name: str) -> _Part:
    return _Part(lambda: getattr(owner, name), lambda value: setattr(owner, name, value))


def _flags() -> Iterator[tuple[str, _Part]]:
    """Yield torch's flags that change what is computed, as far as this torch has them."""
    backends: Any = torch.backends
    for name, owner, attribute in (
        ("TF32 of matrix products", getattr(backends.cuda, "matmul", None), "allow_tf32"),
        ("TF32 of cuDNN", backends.cudnn, "allow_tf32"),
        ("cuDNN's benchmark", backends.cudnn, "benchmark"),
        ("cuDNN's determinism", backends.cudnn, "deterministic"),
        ("cuDNN", backends.cudnn, "enabled"),
        ("reduced precision of bfloat16", backends.cuda.matmul, "allow_bf16_reduced_precision_reduction"),
        ("reduced precision of float16", backends.cuda.matmul, "allow_fp16_reduced_precision_reduction"),
    ):
        if owner is not None:
            yield name, _attribute(owner, attribute)
    for kind in ("flash", "mem_efficient", "math"):
        read, write = getattr(backends.cuda, f"{kind}_sdp_enabled"), getattr(backends.cuda, f"enable_{kind}_sdp")
        yield f"{kind} attention", _Part(read, write)


def _device() -> Any:
    """Return the default device; None where none is set: asked for, it would be the CPU either way."""
    return (
        getattr(getattr(torch, "_GLOBAL_DEVICE_CONTEXT", None), "device_context", None) and torch.get_default_device()
    )


def _set_determinism(value: tuple[bool, bool]) -> None:
    torch.use_deterministic_algorithms(value[0], warn_only=value[1])


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(_SET_BY_TORCH)}


def _set_environment(values: Mapping[str, str]) -> None:
    for name in [name for name in _environment() if name not in values]:
        del os.environ[name]
    for name, value in values.items():
        if os.environ.get(name) != value:
            os.environ[name] = value


def _set_filters(filters: tuple[Any, ...]) -> None:
    warnings.filters[:] = filters  # type: ignore[index]
    with suppress(AttributeError):
        warnings._filters_mutated()  # type: ignore[attr-defined]


def _numpy_state() -> tuple[Any, ...]:
    name, keys, *rest = np.random.get_state()
    return (name, np.asarray(keys).tobytes(), *rest)


def _set_numpy_state(value: tuple[Any, ...]) -> None:
    name, keys, *rest = value
    np.random.set_state((name, np.frombuffer(keys, np.uint32), *rest))


def gpus_are_open() -> bool:
    """Tell whether this process has used a GPU through torch: until then its generators are not to be asked for."""
    return bool(torch.cuda.is_initialized())  # type: ignore[no-untyped-call]


def _cuda_states() -> tuple[bytes, ...]:
    """Return the states of the GPUs' generators; of none where torch has not used one yet: to ask would open them."""
    if not gpus_are_open():
        return ()
    return tuple(state.numpy().tobytes() for state in torch.cuda.get_rng_state_all())


def _set_cuda_states(value: tuple[bytes, ...]) -> None:
    """Put the states back. Where there were none, the GPUs were opened since: they get the seed they begin with."""
    if not gpus_are_open():
        return
    if value:
        torch.cuda.set_rng_state_all([torch.frombuffer(bytearray(state), dtype=torch.uint8) for state in value])
    else:
        torch.cuda.manual_seed_all(torch.initial_seed())


def _set_torch_state(value: bytes) -> None:
    torch.set_rng_state(torch.frombuffer(bytearray(value), dtype=torch.uint8))


@contextmanager
def kept_generators() -> Iterator[None]:
    """Put all generators of random numbers back where they stood, whatever was drawn."""
    parts = [_UNSAID[name] for name in _GENERATORS]
    before = [part.read() for part in parts]
    try:
        yield
    finally:
        for part, state in zip(parts, before, strict=True):
            part.write(state)


_GPUS = "the GPUs' generators"
# Of these nothing is said: every factory that initialises weights draws numbers, and many libraries filter warnings.
_UNSAID: Mapping[str, _Part] = {
    "torch's generator": _Part(lambda: torch.get_rng_state().numpy().tobytes(), _set_torch_state),
    _GPUS: _Part(_cuda_states, _set_cuda_states),
    "numpy's generator": _Part(_numpy_state, _set_numpy_state),
    "Python's generator": _Part(random.getstate, random.setstate),
    "the filters of warnings": _Part(lambda: tuple(warnings.filters), _set_filters),
}
_GENERATORS = ("torch's generator", _GPUS, "numpy's generator", "Python's generator")
_PARTS: Mapping[str, _Part] = {
    "torch's default dtype": _Part(torch.get_default_dtype, torch.set_default_dtype),
    "torch's default device": _Part(_device, torch.set_default_device),
    "torch's determinism": _Part(
        lambda: (torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()),
        _set_determinism,
    ),
    **dict(_flags()),
    # after TF32, which it rules: set the other way round, torch cannot say any more what it is
    "the precision of float32 products": _Part(torch.get_float32_matmul_precision, torch.set_float32_matmul_precision),
    "the working directory": _Part(os.getcwd, os.chdir),
    "the environment": _Part(_environment, _set_environment),
    **_UNSAID,
}
# Long to read, a tenth of a millisecond: after the first calls only now and then, but for those the member has changed.
_SLOW = frozenset({"the environment", *_UNSAID})
_FIRST_CALLS = 16
_NOW_AND_THEN = 32
# What precision: tf32 says of a member, whatever its code does; as the last one torch has it in newer words.
_TF32: Mapping[str, Any] = {
    "TF32 of matrix products": True,
    "TF32 of cuDNN": True,
    "the precision of float32 products": "high",
}
# Not a member's to choose: the plan says how many threads compute, and no gradients are kept.
_OURS: Mapping[str, _Part] = {
    "torch's threads": _Part(torch.get_num_threads, torch.set_num_threads),
    "torch's grad mode": _Part(torch.is_grad_enabled, torch.set_grad_enabled),
}
_ALL = {**_PARTS, **_OURS}


@dataclass(slots=True)
class Surroundings:
    """What one member has changed.

    member  its name
    code    module that its factory lies in, or file that it is unpickled from; None where no code of its own is loaded
    own     part of the state → as the member has left it; what is not in it is as for all
    fixed   part of the state → as the YAML has it for this member, before each call
    said    names of the parts that were reported
    calls   how often the member was run
    """

    member: str
    code: str | None = None
    own: dict[str, Any] = field(default_factory=dict)
    fixed: Mapping[str, Any] = field(default_factory=dict)
    said: set[str] = field(default_factory=set)
    calls: int = 0

    @property
    def changed(self) -> tuple[str, ...]:
        """Names of what the member has changed, but for chance and the filters of warnings."""
        return tuple(name for name in (*_PARTS, *_OURS) if name in self.said)

    def like(self, other: Surroundings) -> bool:
        """Tell whether the other member runs in the same, chance and the filters of warnings left out."""
        own, others = ({k: v for k, v in each.own.items() if k not in _UNSAID} for each in (self, other))
        return own == others

    @contextmanager
    def while_loading(self) -> Iterator[None]:
        """Let the member be imported, built and loaded in its own surroundings, and keep what that leaves.

        Kept with its code: to import it once more changes nothing, and the member would find less than it needs.
        """
        with self.around(report=self.code is not None):
            yield
        if self.code is not None:
            _LEFT_BY_CODE[self.code] = dict(self.own)

    @contextmanager
    def around(self, *, report: bool = True) -> Iterator[None]:
        """Let the member run in its own surroundings; afterwards they are those of all again.

        report  say what it changed, once; False where code of the member's own is not run
        """
        self.calls += 1
        whole = self.calls <= _FIRST_CALLS or self.calls % _NOW_AND_THEN == 0
        seldom = frozenset() if whole else _SLOW - self.own.keys()
        before = _read(seldom)
        _write({name: value for name, value in self.own.items() if before.get(name) != value})
        self._fix()
        try:
            yield
        finally:
            self._keep(before, _read(seldom), report=report)

    def _fix(self) -> None:
        """Set what the YAML says. Raises MemberError where this torch does not keep it."""
        if not self.fixed:
            return
        _write(self.fixed)
        if lost := [name for name, value in self.fixed.items() if _ALL[name].read() != value]:
            raise MemberError(
                f"member {self.member}: torch {torch.__version__} does not take {', '.join(lost)}",
                "write precision: float32 for it",
            )

    def _keep(self, before: State, after: State, *, report: bool) -> None:
        differing = {name: value for name, value in after.items() if name in before and value != before[name]}
        _write({name: before[name] for name in self.fixed if name in differing})
        differing = {name: value for name, value in differing.items() if name not in self.fixed}
        opened = {_GPUS} if before.get(_GPUS) == () else set()  # it opened the GPUs: the generators are as for all
        self.own = {name: value for name, value in differing.items() if name in _PARTS and name not in opened}
        _write({name: before[name] for name in differing})
        if not report:
            return
        if new := [name for name in differing if name not in _UNSAID and name not in self.said]:
            self.said.update(new)
            print(f"hpcens: warning: {self.described(new)}", file=sys.stderr, flush=True)

    def described(self, parts: Sequence[str]) -> str:
        """Return what the member changed, as a sentence."""
        ours = [name for name in parts if name in _OURS]
        own = [name for name in parts if name not in _OURS]
        kept = f"{', '.join(own)}: kept for it alone" if own else ""
        reset = f"{', '.join(ours)}: put back" if ours else ""
        return f"member {self.member} changes {'; '.join(filter(None, (kept, reset)))}"


_LEFT_BY_CODE: dict[str, dict[str, Any]] = {}


def surroundings_of(member: MemberSpec) -> Surroundings:
    """Return the surroundings in which the member is to be loaded: as its code has left them in this process before."""
    calls = member.functions.values()
    code = member.factory or (str(member.pickled) if member.pickled is not None else None) or next(iter(calls), None)
    code = code.partition(":")[0] if code is not None and member.pickled is None else code
    fixed = _TF32 if member.computes_in == "tf32" else {}
    return Surroundings(member.name, code, dict(_LEFT_BY_CODE.get(code or "", {})), fixed)


def _read(seldom: Collection[str]) -> dict[str, Any]:
    """Read all other parts that can be read: a working directory may be gone, a flag be ruled by a newer one."""
    wanted = {name: part for name, part in _ALL.items() if name not in seldom}
    try:
        return {name: part.read() for name, part in wanted.items()}
    except Exception:
        state = {}
        for name, part in wanted.items():
            with suppress(Exception):
                state[name] = part.read()
        return state


def _write(state: State) -> None:
    for name, value in state.items():
        _ALL[name].write(value)
