"""cuda_graphs: a network whose kernels are recorded once and from then on launched all at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

_WARM_UP = 3


class CudaGraph(torch.nn.Module):
    """The module for inputs of these shapes: they are copied to where the recorded kernels look for them.

    api  torch's CUDA interface
    """

    def __init__(self, module: torch.nn.Module, inputs: Sequence[torch.Tensor], api: Any = torch.cuda) -> None:
        super().__init__()
        self._fed = [x.clone() for x in inputs]
        # libraries choose their kernels and ask for memory in the first passes, which must not be recorded
        aside = api.Stream()
        aside.wait_stream(api.current_stream())
        with api.stream(aside):
            for _ in range(_WARM_UP):
                module(*self._fed)
        api.current_stream().wait_stream(aside)
        self._graph = api.CUDAGraph()
        self._module = module  # its weights are where the kernels look for them
        with api.graph(self._graph):
            self._given: torch.Tensor = module(*self._fed)

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        for place, x in zip(self._fed, inputs, strict=True):
            place.copy_(x)
        self._graph.replay()
        return self._given.clone()  # the next replay writes there
