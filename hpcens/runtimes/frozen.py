"""frozen: a network traced, its weights folded in as constants, its operators fused for the CPU.

torch 2.13 deprecates torch.jit, and says so at every call.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from inspect import signature
from pathlib import Path
from typing import Any

import torch
from torch.jit import ScriptModule, TracerWarning, optimized_execution  # type: ignore[attr-defined]
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from hpcens.errors import RuntimeUnsuited


def files(package: Path) -> tuple[Path, ...]:
    """Name the file that a package is kept in."""
    return (package.with_name(f"{package.name}.ts"),)


def build(module: torch.nn.Module, inputs: Sequence[torch.Tensor], cores: int, file: Path) -> torch.nn.Module:
    """Freeze the module for inputs of these shapes, and keep it in the file where that is possible.

    Raises whatever torch does where it cannot be traced.
    """
    with _no_deprecation():
        script = torch.jit.freeze(module if isinstance(module, ScriptModule) else traced(module, inputs))
        content = io.BytesIO()  # torch's own writer ends the process where the disk is full
        try:
            torch.jit.save(script, content)
        except Exception:  # not every graph can be written, and those run none the worse
            return _Fused(script)
    file.write_bytes(content.getbuffer())
    return open_kept((file,), cores)


def open_kept(files: Sequence[Path], cores: int) -> torch.nn.Module:
    """Load the module that was kept in the file; its threads are those of its process, whatever `cores` says."""
    with _no_deprecation():
        return _Fused(torch.jit.load(files[0], map_location="cpu"))  # type: ignore[no-untyped-call]


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
    """Trace the module on inputs of one batch, (batch, *row shape) each.

    A trace keeps what Python decided on these inputs. Where the module looks at numbers, or torch warns of that, it
    is exported, which refuses a decision that depends on the rows, and the export is traced. So is a program that was
    exported for batches of any size, whose sizes are symbols: for this one they are numbers.
    """
    example = tuple(inputs)
    looks = looks_at_numbers(module, example)
    with _no_deprecation():
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", TracerWarning)
            script = None if _has_symbols(module) else _trace(module, example)
        warned = any(issubclass(warning.category, TracerWarning) for warning in caught)
        if script is not None and not looks and not warned:
            return script
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what export takes exception to, it refuses
            program = torch.export.export(module, example)
            options = {"check_guards": False} if "check_guards" in signature(program.module).parameters else {}
            graph = program.module(**options)
            if looks and looks_at_numbers(graph, example):  # some versions of torch export what gives numbers as well
                raise RuntimeUnsuited("it makes numbers of what it computes, which a trace would keep")
            return _trace(graph, example)


def _has_symbols(module: torch.nn.Module) -> bool:
    """Tell whether a program in the module was exported for sizes that are not fixed."""
    graphs = (part.graph for part in module.modules() if isinstance(part, torch.fx.GraphModule))
    values = (node.meta.get("val") for graph in graphs for node in graph.nodes if node.op == "placeholder")
    sizes = (size for value in values if isinstance(value, torch.Tensor) for size in value.shape)
    return any(isinstance(size, torch.SymInt) for size in sizes)


def looks_at_numbers(module: torch.nn.Module, example: Sequence[torch.Tensor]) -> bool:
    """Tell whether the module, run on an example, makes Python numbers of what it computes, by which it may decide.

    Seen by what is executed: warnings may be silenced, and operators that look at numbers inside warn of nothing.
    """
    looks = _Looks()
    with looks, _Leaves(looks):
        module(*example)
    return looks.seen


class _Looks(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notice operators that give Python a number of a tensor."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seen = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.seen |= func in _GIVING_NUMBERS
        with self:  # in inference mode composed operators come whole: it is their parts that may look
            whole = func.decompose(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {})) if whole is NotImplemented else whole


class _Leaves(TorchFunctionMode):
    """Notice tensors that leave torch as a whole."""

    def __init__(self, looks: _Looks) -> None:
        super().__init__()
        self._looks = looks

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self._looks.seen |= getattr(func, "__name__", "") in _LEAVING
        return func(*args, **(kwargs or {}))


_GIVING_NUMBERS = (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.equal.default)
_LEAVING = ("numpy", "tolist", "__array__", "__dlpack__", "data_ptr")


def _trace(module: torch.nn.Module, example: tuple[torch.Tensor, ...]) -> ScriptModule:
    script: ScriptModule = torch.jit.trace(module, example, check_trace=False)  # type: ignore[no-untyped-call]
    return script.eval()  # unlike the modules of exported programs, which refuse, their trace can be told


@contextmanager
def _no_deprecation() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"`torch\.jit\.\w+` is (deprecated|not supported)", Warning)
        yield
