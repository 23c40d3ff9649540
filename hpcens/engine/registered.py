"""Host memory that is registered with CUDA: its pages stay where they are, and the GPU copies from them by itself.

Readers put rows into memory that other processes have mapped too. Registered, it needs no copy on the host: what lies
there is to stay as it is until the copy to the GPU is through.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import torch

from hpcens.vocabulary import Array

_DEFAULT = 0


class Registered:
    """Pieces of memory that this process has registered."""

    def __init__(self, device: torch.device, api: Any, view: Callable[[Array], torch.Tensor]) -> None:
        """Start with none.

        device  whose process it is
        api     torch's CUDA interface
        view    makes a tensor of an array's own memory
        """
        self._device = device
        self._api = api
        self._view = view
        self._pieces: list[tuple[int, torch.Tensor]] = []  # where each begins, and its bytes

    def add(self, pieces: Sequence[Array]) -> str:
        """Register memory, uint8 (bytes,) each, which lives until `clear`; say why it cannot be, and then have none."""
        for memory in pieces:
            begin = memory.ctypes.data
            try:
                cudart = self._api.cudart()
                code = cudart.cudaHostRegister(begin, memory.nbytes, _DEFAULT)
                why = "" if code == cudart.cudaError.success else str(cudart.cudaGetErrorString(code))
            except (RuntimeError, AssertionError, AttributeError) as error:  # a torch without that function
                why = str(error).strip().partition("\n")[0] or type(error).__name__
            if why:
                self.clear()
                self._forget_error()
                return f"cudaHostRegister: {why}"
            self._pieces.append((begin, self._view(memory)))
        return ""

    def find(self, rows: Array) -> torch.Tensor | None:
        """Return the bytes of an array that lies in registered memory, (bytes,); None where it does not."""
        if not rows.flags.c_contiguous:
            return None
        for begin, piece in self._pieces:
            place = rows.ctypes.data - begin
            if place >= 0 and place + rows.nbytes <= piece.numel():
                return piece[place : place + rows.nbytes]
        return None

    def clear(self) -> None:
        """Let go of all, once what is copied from it is through."""
        if not self._pieces:
            return
        with suppress(RuntimeError):  # a GPU that is lost copies nothing more, and who needs it will say so
            self._api.synchronize()
        while self._pieces:
            begin, _ = self._pieces.pop()
            self._api.cudart().cudaHostUnregister(begin)

    def _forget_error(self) -> None:
        """Take CUDA's last error from it: else the next kernel of torch's would be blamed for it."""
        with suppress(RuntimeError):
            torch.empty(1, device=self._device).fill_(1)
