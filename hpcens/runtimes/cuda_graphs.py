"""cuda_graphs: a network whose kernels are recorded once and from then on launched all at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

_WARM_UP = 3


class CudaGraph(torch.nn.Module):
    """A module for inputs of one shape each: they are copied to where the recorded kernels look for them."""

    def __init__(self, module: torch.nn.Module, inputs: Sequence[torch.Tensor], api: Any = torch.cuda) -> None:
        """Record the module's kernels.

        inputs  (batch, *row shape) of each input, on the device
        api     torch's CUDA interface
        """
        super().__init__()
        self._inputs = [x.clone() for x in inputs]
        # libraries choose their kernels and ask for memory in the first passes, which must not be recorded
        aside = api.Stream()
        aside.wait_stream(api.current_stream())
        with api.stream(aside):
            for _ in range(_WARM_UP):
                module(*self._inputs)
        api.current_stream().wait_stream(aside)
        self._graph = api.CUDAGraph()
        self._module = module  # its weights are where the kernels look for them
        with api.graph(self._graph):
            self._output: torch.Tensor = module(*self._inputs)

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        for place, x in zip(self._inputs, inputs, strict=True):
            place.copy_(x)
        self._graph.replay()
        return self._output.clone()  # the next replay writes there
