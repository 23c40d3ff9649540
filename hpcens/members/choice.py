"""Choice: which of all that a network returns is the member's output."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch

from hpcens.errors import MemberError
from hpcens.shell import listed


def whole(returned: object) -> torch.Tensor:
    """Return the tensor that the network returned."""
    assert isinstance(returned, torch.Tensor)
    return returned


def chosen(name: str, select: str | None, returned: object) -> torch.Tensor:
    """Choose the tensor that is meant, of all that the network returned.

    name    the member's
    select  index, key or attribute of the output that is meant; None where there is one alone
    """
    parts = _parts(returned)
    if select is None:
        if isinstance(returned, torch.Tensor):
            return returned
        remedy = f"say which output is meant, for example select: {next(iter(parts))}" if parts else ""
        raise MemberError(
            f"member {name} returned {shown(returned)}, not one tensor", remedy or "let its forward return one"
        )
    output = parts.get(select)
    if not isinstance(output, torch.Tensor):
        raise MemberError(
            f"member {name} returned {shown(returned)}, of which select: {select} is no tensor",
            f"it has: {', '.join(parts) or 'one output only, so remove select'}",
        )
    return output


def _parts(returned: object) -> Mapping[str, object]:
    """Return the outputs in a container, by index, key or attribute."""
    if isinstance(returned, Mapping):
        return {str(key): value for key, value in returned.items()}
    if isinstance(returned, Sequence) and not isinstance(returned, str):
        names = getattr(returned, "_fields", ())
        return {str(i): value for i, value in enumerate(returned)} | dict(zip(names, returned, strict=False))
    if isinstance(returned, torch.Tensor):
        return {}
    attributes = getattr(returned, "__dict__", {})
    return {name: value for name, value in attributes.items() if isinstance(value, torch.Tensor)}


def shown(returned: object) -> str:
    """Describe what a network returned, in a phrase."""
    if isinstance(returned, torch.Tensor):
        return f"{str(returned.dtype).removeprefix('torch.')} {tuple(returned.shape)}"
    parts = _parts(returned)
    inner = f" of {listed([f'{key}: {shown(part)}' for key, part in parts.items()])}" if parts else ""
    return f"{type(returned).__name__}{inner}"


class Chosen(torch.nn.Module):
    """A network that gives one tensor."""

    def __init__(self, module: torch.nn.Module, choose: Callable[[object], torch.Tensor]) -> None:
        super().__init__()
        self.training = False  # not eval(): of the modules below, those of exported programs refuse to be asked
        self.module = module
        self._choose = choose

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        """Return the tensor that is meant."""
        return self._choose(self.module(*inputs))
