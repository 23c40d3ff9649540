"""compiled: a network exported and compiled ahead of time by torch's inductor, its weights folded in."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from hpcens.errors import RuntimeUnsuited


def compiled(module: torch.nn.Module, inputs: Sequence[torch.Tensor], package: Path) -> torch.nn.Module:
    """The module for inputs of these shapes, from its package where there is one.

    Raises RuntimeUnsuited where this torch cannot, else whatever it raises: no compiler, no export.
    """
    import torch._inductor

    if not hasattr(torch._inductor, "aoti_load_package"):
        raise RuntimeUnsuited(f"compiled: torch {torch.__version__} has no packages of compiled modules; 2.6 has")
    path = package.with_name(f"{package.name}.pt2")
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        made = path.with_name(f"{package.name}.{os.getpid()}.pt2")
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what export takes exception to, it refuses
            program = torch.export.export(module, tuple(inputs))
            torch._inductor.aoti_compile_and_package(
                program, package_path=str(made), inductor_configs={"freezing": True}
            )
        made.replace(path)
    return _Package(torch._inductor.aoti_load_package(str(path)))


class _Package(torch.nn.Module):
    """A loaded package as a module."""

    def __init__(self, run: Any) -> None:
        super().__init__()
        self._run = run

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        values: torch.Tensor = self._run(*inputs)
        return values
