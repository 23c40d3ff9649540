"""tensorrt: a network exported and built by TensorRT, for who asks for it. Needs the extra `tensorrt`.

It chooses kernels by a stopwatch, so that what is built anew may give other bits: what was built first is kept.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, cast

import torch

from hpcens.errors import RuntimeUnsuited


def files(package: Path) -> tuple[Path, ...]:
    """Name the file that a package is kept in."""
    return (package.with_name(f"{package.name}.ep"),)


def build(module: torch.nn.Module, inputs: Sequence[torch.Tensor], cores: int, file: Path) -> torch.nn.Module:
    """Build the module for inputs of these shapes, in their dtype, and keep it in the file.

    TF32 is taken where torch's flag says so. Raises RuntimeUnsuited where the package is not installed, else whatever
    it raises: no export, no operator of its own.
    """
    tensorrt = _installed()
    floats = {x.dtype for x in (*inputs, *module.parameters()) if x.is_floating_point()}
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what export takes exception to, it refuses
        program = torch.export.export(module, tuple(inputs))
        made = tensorrt.dynamo.compile(
            program,
            inputs=list(inputs),
            enabled_precisions=floats,
            disable_tf32=not torch.backends.cuda.matmul.allow_tf32,
        )
        tensorrt.save(made, str(file), inputs=list(inputs))
    return open_kept((file,), cores)


def open_kept(files: Sequence[Path], cores: int) -> torch.nn.Module:
    """Load the module that was kept in the file."""
    return cast(torch.nn.Module, _installed().load(str(files[0])).module())


def _installed() -> Any:
    try:
        return import_module("torch_tensorrt")
    except ImportError as error:
        raise RuntimeUnsuited(
            f"tensorrt: torch_tensorrt cannot be imported ({error}): pip install 'hpcens[tensorrt]', or write"
            " plan.runtime: auto"
        ) from error
