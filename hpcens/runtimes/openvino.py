"""openvino: a network's trace compiled by OpenVINO for the CPU. Needs the extra `openvino`."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from openvino import Core, convert_model, save_model

from hpcens.errors import RuntimeUnsuited
from hpcens.runtimes.frozen import traced


def files(package: Path) -> tuple[Path, ...]:
    """Name the files that a package's graph and its weights are kept in."""
    name = f"{package.name}-openvino-{version('openvino')}"
    return package.with_name(f"{name}.xml"), package.with_name(f"{name}.bin")


def build(module: torch.nn.Module, inputs: Sequence[torch.Tensor], cores: int, file: Path) -> torch.nn.Module:
    """Compile the module for inputs of these shapes, and keep its converted graph in the file.

    Raises RuntimeUnsuited where it does not compute in float32, else whatever OpenVINO raises.
    """
    own = (*inputs, *module.parameters(), *module.buffers())
    if any(x.is_complex() or (x.is_floating_point() and x.dtype != torch.float32) for x in own):
        raise RuntimeUnsuited("openvino: it is run in float32 alone")
    model = convert_model(traced(module, inputs), example_input=tuple(inputs))
    model.reshape({place: list(x.shape) for place, x in enumerate(inputs)})
    save_model(model, file, compress_to_fp16=False)
    return open_kept((file, file.with_suffix(".bin")), cores)


def open_kept(files: Sequence[Path], cores: int) -> torch.nn.Module:
    """Compile the graph that was kept in the files."""
    settings = {
        "INFERENCE_NUM_THREADS": cores,
        "NUM_STREAMS": 1,
        "ENABLE_CPU_PINNING": False,  # every rank of the host would sit on the same core
        "INFERENCE_PRECISION_HINT": "f32",
    }
    core = Core()
    return _Request(core.compile_model(core.read_model(*files), "CPU", settings).create_infer_request())


class _Request(torch.nn.Module):
    """A request as a module: takes tensors in the order of its inputs, returns the first output."""

    def __init__(self, request: Any) -> None:
        super().__init__()
        self._request = request

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        arrays = [x.contiguous().numpy() for x in inputs]
        values = self._request.infer(arrays, share_inputs=True)[0]
        return torch.from_numpy(values)
