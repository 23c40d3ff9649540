"""CUDA devices: pinned staging, copies on a stream of their own, memory as torch's allocator sees it.

One process per device. Rows are copied into a pinned buffer and sent on the copy stream while the
compute stream is busy with the segment before; an event makes the compute stream wait for them. A
pinned buffer is used again once its copy is through, so as many exist as segments are ahead.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from hpcens.messages import Array


@dataclass(slots=True)
class _Staged:
    buffer: torch.Tensor
    rows: torch.Tensor
    copied: Any


def _pinned(size: int) -> torch.Tensor:
    return torch.empty(size, dtype=torch.uint8, pin_memory=True)


class CudaHardware:
    """One GPU.

    device  where tensors live
    api     torch's CUDA interface
    pin     makes a pinned buffer of so many bytes
    """

    def __init__(
        self, device: torch.device, api: Any = torch.cuda, pin: Callable[[int], torch.Tensor] = _pinned
    ) -> None:
        self._device = device
        self._api = api
        self._pin = pin
        self._api.set_device(device)
        self._copies = self._api.Stream()
        self._free: list[torch.Tensor] = []
        self._busy: list[_Staged] = []

    def stage(self, rows: Array) -> _Staged:
        self._recycle()
        buffer = self._pinned(rows.nbytes)
        pinned = buffer[: rows.nbytes]
        pinned.copy_(torch.from_numpy(rows.reshape(-1).view("u1")))
        with self._api.stream(self._copies):
            there = pinned.to(self._device, non_blocking=True)
            copied = self._api.Event()
            copied.record(self._copies)
        dtype = torch.from_numpy(rows[:0]).dtype
        staged = _Staged(buffer, there.view(dtype).reshape(rows.shape), copied)
        self._busy.append(staged)
        return staged

    def receive(self, staged: _Staged) -> torch.Tensor:
        # rows outlive all that is computed from them: every fetch waits for the compute stream
        self._api.current_stream().wait_event(staged.copied)
        return staged.rows

    def place(self, module: torch.nn.Module) -> torch.nn.Module:
        return module.to(self._device)

    def fetch(self, values: torch.Tensor) -> Array:
        return values.cpu().numpy()

    def out_of_memory(self, error: BaseException) -> bool:
        return isinstance(error, self._api.OutOfMemoryError)

    def release(self) -> None:
        self._api.empty_cache()

    def resident(self) -> int:
        return int(self._api.memory_allocated())

    def start_peak(self) -> None:
        self._api.reset_peak_memory_stats()

    def peak(self) -> int:
        return int(self._api.max_memory_allocated())

    def _recycle(self) -> None:
        for staged in [staged for staged in self._busy if staged.copied.query()]:
            self._busy.remove(staged)
            self._free.append(staged.buffer)

    def _pinned(self, size: int) -> torch.Tensor:
        for buffer in self._free:
            if buffer.numel() >= size:
                self._free.remove(buffer)
                return buffer
        self._free.clear()  # all too small: let them go
        return self._pin(size)
