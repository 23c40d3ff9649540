"""compiled: a network exported and compiled ahead of time by torch's inductor, its weights folded in."""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from hpcens.errors import RuntimeUnsuited
from hpcens.files import replacing


def compiled(module: torch.nn.Module, inputs: Sequence[torch.Tensor], package: Path) -> torch.nn.Module:
    """The module for inputs of these shapes, kept as package.

    Raises RuntimeUnsuited where this torch cannot, else whatever it raises: no compiler, no export.
    """
    import torch._inductor

    if not hasattr(torch._inductor, "aoti_load_package"):
        raise RuntimeUnsuited(f"compiled: torch {torch.__version__} has no packages of compiled modules; 2.6 has")
    path = _path(package)
    with replacing(path) as made, torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what export takes exception to, it refuses
        program = torch.export.export(module, tuple(inputs))
        torch._inductor.aoti_compile_and_package(program, package_path=str(made), inductor_configs={"freezing": True})
    kept = open_compiled(package)
    assert kept is not None
    return kept


def open_compiled(package: Path) -> torch.nn.Module | None:
    """The module that was kept as package; None where none was."""
    path = _path(package)
    if not path.exists():
        return None
    return _light(path) or _Package(_load(path))


def _path(package: Path) -> Path:
    return package.with_name(f"{package.name}.pt2")


def _load(path: Path) -> Any:
    import torch._inductor

    return torch._inductor.aoti_load_package(str(path))


def _light(path: Path) -> torch.nn.Module | None:
    """The package without torch's compiler, whose import takes seconds, and more memory than most networks.

    What torch does around its loader is to sort arguments into a flat list, and the list it gets into what the
    network returned; ours take and give tensors. None where this torch's loader is another, or the package is.
    """
    try:
        loader = torch._C._aoti.AOTIModelPackageLoader(str(path), "model", False, 1, -1)
        *_, gives = (json.loads(spec)[1] for spec in loader.get_call_spec())
        if gives["type"] is None and not gives["children_spec"]:
            return _Package(lambda *inputs: loader.boxed_run([*inputs])[0])
    except (AttributeError, TypeError, ValueError, KeyError, IndexError, RuntimeError):
        pass
    return None


class _Package(torch.nn.Module):
    """A loaded package as a module."""

    def __init__(self, run: Any) -> None:
        super().__init__()
        self._run = run

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        values: torch.Tensor = self._run(*inputs)
        return values
