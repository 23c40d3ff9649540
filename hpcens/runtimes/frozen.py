"""frozen: a network traced, its weights folded in as constants, its operators fused for the CPU.

torch 2.13 deprecates torch.jit, and says so at every call.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from inspect import signature

import torch
from torch.jit import ScriptModule, TracerWarning  # type: ignore[attr-defined]

# The first passes of a traced graph are watched by torch, and it may change after them: none of them counts.
_WARM_UP = 3


def frozen(module: torch.nn.Module, inputs: Sequence[torch.Tensor]) -> torch.nn.Module:
    """The module for inputs of these shapes. Raises whatever torch does where it cannot be traced."""
    with _no_deprecation():
        script = module if isinstance(module, ScriptModule) else traced(module, inputs)
        made = torch.jit.optimize_for_inference(torch.jit.freeze(script))
        for _ in range(_WARM_UP):
            made(*inputs)
        return made


def traced(module: torch.nn.Module, inputs: Sequence[torch.Tensor]) -> ScriptModule:
    """The module's trace.

    A trace keeps what Python decided on these inputs. Where torch warns of that, the module is exported, which
    refuses a decision that depends on the rows, and the export is traced.
    """
    example = tuple(inputs)
    with _no_deprecation():
        with warnings.catch_warnings(record=True) as heard:
            warnings.simplefilter("always", TracerWarning)
            script = _trace(module, example)
        if not any(issubclass(of.category, TracerWarning) for of in heard):
            return script
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what export takes exception to, it refuses
            program = torch.export.export(module, example)
            options = {"check_guards": False} if "check_guards" in signature(program.module).parameters else {}
            return _trace(program.module(**options), example).eval()


def _trace(module: torch.nn.Module, example: tuple[torch.Tensor, ...]) -> ScriptModule:
    script: ScriptModule = torch.jit.trace(module, example, check_trace=False)  # type: ignore[no-untyped-call]
    return script


@contextmanager
def _no_deprecation() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"`torch\.jit\.\w+` is (deprecated|not supported)", DeprecationWarning)
        yield
