"""frozen: a network traced, its weights folded in as constants, its operators fused for the CPU.

torch 2.13 deprecates torch.jit, and says so at every call.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from inspect import signature
from pathlib import Path

import torch
from torch.jit import ScriptModule, TracerWarning, optimized_execution  # type: ignore[attr-defined]

from hpcens.files import replacing


def frozen(module: torch.nn.Module, inputs: Sequence[torch.Tensor], package: Path) -> torch.nn.Module:
    """The module for inputs of these shapes, kept as package. Raises whatever torch does where it cannot be traced."""
    with _no_deprecation():
        script = torch.jit.freeze(module if isinstance(module, ScriptModule) else traced(module, inputs))
        path = _path(package)
        try:
            with replacing(path) as made:
                torch.jit.save(script, made)
        except Exception:  # not every graph can be written, and those run none the worse
            return _Fused(script)
    kept = open_frozen(package)
    assert kept is not None
    return kept


def open_frozen(package: Path) -> torch.nn.Module | None:
    """The module that was kept as package; None where none was."""
    path = _path(package)
    if not path.exists():
        return None
    with _no_deprecation():
        return _Fused(torch.jit.load(path, map_location="cpu"))  # type: ignore[no-untyped-call]


def _path(package: Path) -> Path:
    return package.with_name(f"{package.name}.ts")


class _Fused(torch.nn.Module):
    """A frozen graph as a module, its operators fused."""

    def __init__(self, script: ScriptModule) -> None:
        super().__init__()
        self._script = torch.jit.optimize_for_inference(script)

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        # Else torch would watch the first passes, change the graph after them, and gain nothing: it is fused already.
        with optimized_execution(False):
            values: torch.Tensor = self._script(*inputs)
        return values


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
