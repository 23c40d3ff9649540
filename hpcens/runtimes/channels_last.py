"""channels_last: a network whose images have their channels innermost in memory, as many kernels want them."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from hpcens.errors import RuntimeUnsuited


class ChannelsLast(torch.nn.Module):
    """A module, its weights laid out anew; images come in any layout."""

    def __init__(self, module: torch.nn.Module, inputs: Sequence[torch.Tensor]) -> None:
        """Lay the module's weights out anew. Raises RuntimeUnsuited where no input has the four axes of images."""
        super().__init__()
        self.training = False
        if not any(x.dim() == 4 for x in inputs):
            raise RuntimeUnsuited("channels_last: none of its inputs has the four axes of images")
        self.module = module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        """Return the module's output for its inputs, images arranged with their channels last."""
        arranged = (x.contiguous(memory_format=torch.channels_last) if x.dim() == 4 else x for x in inputs)
        values: torch.Tensor = self.module(*arranged)
        return values
