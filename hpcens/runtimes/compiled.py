"""compiled: a network exported and compiled ahead of time by torch's inductor, its weights folded in."""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from hpcens.errors import RuntimeUnsuited


def files(package: Path) -> tuple[Path, ...]:
    """Name the file that a package is kept in."""
    return (package.with_name(f"{package.name}.pt2"),)


def build(module: torch.nn.Module, inputs: Sequence[torch.Tensor], cores: int, file: Path) -> torch.nn.Module:
    """Compile the module for inputs of these shapes, and keep it in the file.

    Raises RuntimeUnsuited where this torch cannot, else whatever it raises: no compiler, no export.
    """
    import torch._inductor

    if not hasattr(torch._inductor, "aoti_load_package"):
        raise RuntimeUnsuited(f"compiled: torch {torch.__version__} has no packages of compiled modules; 2.6 has")
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what export takes exception to, it refuses
        program = torch.export.export(module, tuple(inputs))
        settings = _settings(on_gpu=any(x.is_cuda for x in inputs))
        torch._inductor.aoti_compile_and_package(program, package_path=str(file), inductor_configs=settings)
    return open_kept((file,), cores)


def _settings(*, on_gpu: bool) -> dict[str, Any]:
    """Return what inductor is told, as far as this torch knows the words.

    For GPUs, to choose no kernel by its speed, which would be another one each time, and to hold weights in torch's own
    memory, which `devices.cuda.memory` limits.
    """
    settings: dict[str, Any] = {"freezing": True}
    if on_gpu:
        from torch._inductor import config

        for name, group, word in (
            ("deterministic", config, "deterministic"),
            ("aot_inductor.weight_use_caching_allocator", config.aot_inductor, "weight_use_caching_allocator"),
        ):
            if hasattr(group, word):
                settings[name] = True
    return settings


def open_kept(files: Sequence[Path], cores: int) -> torch.nn.Module:
    """Load the module that was kept in the file; its threads are those of its process, whatever `cores` says."""
    return _light(files[0]) or _Package(_load(files[0]))


def _load(file: Path) -> Any:
    import torch._inductor

    return torch._inductor.aoti_load_package(str(file))


def _light(file: Path) -> torch.nn.Module | None:
    """Load the package without torch's compiler, whose import takes seconds, and more memory than most networks.

    What torch does around its loader is to sort arguments into a flat list, and the list it gets into what the
    network returned; ours take and give tensors. None where this torch's loader is another, or the package is.
    """
    try:
        loader = torch._C._aoti.AOTIModelPackageLoader(str(file), "model", False, 1, -1)
        *_, returned = (json.loads(spec)[1] for spec in loader.get_call_spec())
        if returned["type"] is None and not returned["children_spec"]:
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
