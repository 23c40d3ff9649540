"""openvino: a network's trace compiled by OpenVINO for the CPU. Needs the extra `openvino`."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from openvino import Core, convert_model, save_model

from hpcens.errors import RuntimeUnsuited
from hpcens.files import replacing
from hpcens.runtimes.frozen import traced


def openvino(module: torch.nn.Module, inputs: Sequence[torch.Tensor], cores: int, package: Path) -> torch.nn.Module:
    """The module for inputs of these shapes, its converted graph kept as package.

    Raises RuntimeUnsuited where it does not compute in float32, else whatever OpenVINO raises.
    """
    if any(x.is_floating_point() and x.dtype != torch.float32 for x in inputs):
        raise RuntimeUnsuited("openvino: it is run in float32 alone")
    model = convert_model(traced(module, inputs), example_input=tuple(inputs))
    model.reshape({place: list(x.shape) for place, x in enumerate(inputs)})
    path = _path(package)
    with replacing(path) as made, replacing(path.with_suffix(".bin")) as weights:  # the graph says that both are there
        save_model(model, made, compress_to_fp16=False)
        made.with_suffix(".bin").replace(weights)
    kept = open_openvino(cores, package)
    assert kept is not None
    return kept


def open_openvino(cores: int, package: Path) -> torch.nn.Module | None:
    """The module that was kept as package; None where none was."""
    path = _path(package)
    if not path.exists():
        return None
    settings = {
        "INFERENCE_NUM_THREADS": cores,
        "NUM_STREAMS": 1,
        "ENABLE_CPU_PINNING": False,  # every rank of the host would sit on the same core
        "INFERENCE_PRECISION_HINT": "f32",
    }
    core = Core()
    return _Request(core.compile_model(core.read_model(path), "CPU", settings).create_infer_request())


def _path(package: Path) -> Path:
    return package.with_name(f"{package.name}-openvino-{version('openvino')}.xml")


class _Request(torch.nn.Module):
    """A request as a module: tensors in the order of its inputs → the first output."""

    def __init__(self, request: Any) -> None:
        super().__init__()
        self._request = request

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        fed = [x.contiguous().numpy() for x in inputs]
        values = self._request.infer(fed, share_inputs=True)[0]
        return torch.from_numpy(values)
