"""CUDA devices: pinned staging, copies on a stream of their own, memory as torch's allocator sees it.

One process per device. Rows are copied into a pinned buffer and sent on the copy stream while the
compute stream is busy with the segment before; an event makes the compute stream wait for them. A
pinned buffer is used again once its copy is through, so as many exist as segments are ahead.

Rows may be staged by another thread than the one that computes, and torch keeps the current device per
thread: each way in sets it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from hpcens.vocabulary import Array

_OUT_OF_MEMORY = ("CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED")


@dataclass(frozen=True, slots=True, eq=False)
class _Staged:
    """Rows on their way to the device, and the event that says they are there."""

    rows: torch.Tensor
    copied: Any


def _pinned(size: int) -> torch.Tensor:
    return torch.empty(size, dtype=torch.uint8, pin_memory=True)


class CudaHardware:
    """One GPU."""

    def __init__(
        self, device: torch.device, api: Any = torch.cuda, pin: Callable[[int], torch.Tensor] = _pinned
    ) -> None:
        """Use one GPU for this process.

        device  where tensors live
        api     torch's CUDA interface
        pin     makes a pinned buffer of so many bytes
        """
        self._device = device
        self._api = api
        self._pin = pin
        self._api.set_device(device)
        self._copies = self._api.Stream()
        self._lock = threading.Lock()
        self._free: list[torch.Tensor] = []
        self._busy: list[tuple[Any, torch.Tensor]] = []

    def stage(self, rows: Array) -> _Staged:
        self._api.set_device(self._device)
        with self._lock:
            buffer = self._pinned(rows.nbytes)
            pinned = buffer[: rows.nbytes]
            pinned.copy_(torch.from_numpy(rows.reshape(-1).view("u1")))
            try:
                with self._api.stream(self._copies):
                    on_device = pinned.to(self._device, non_blocking=True)
            except Exception:
                self._free.append(buffer)
                raise
            copied = self._api.Event()
            copied.record(self._copies)
            self._busy.append((copied, buffer))
        dtype = torch.from_numpy(rows[:0]).dtype
        return _Staged(on_device.view(dtype).reshape(rows.shape), copied)

    def receive(self, staged: _Staged) -> torch.Tensor:
        self._api.set_device(self._device)
        # rows outlive all that is computed from them: every fetch waits for the compute stream
        self._api.current_stream().wait_event(staged.copied)
        return staged.rows

    def place(self, module: torch.nn.Module) -> torch.nn.Module:
        return module.to(self._device)

    def room(self, shape: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
        return torch.empty(tuple(shape), dtype=dtype, device=self._device)

    def put(self, room: torch.Tensor, start: int, values: torch.Tensor) -> None:
        room[start : start + len(values)] = values.detach()

    def fetch(self, room: torch.Tensor) -> Array:
        return room.cpu().numpy()

    def out_of_memory(self, error: BaseException) -> bool:
        # libraries and pinned memory are not the allocator's: their errors are recognised by their text
        return isinstance(error, self._api.OutOfMemoryError) or (
            isinstance(error, RuntimeError) and any(text in str(error) for text in _OUT_OF_MEMORY)
        )

    def release(self) -> None:
        self._api.empty_cache()

    def resident(self) -> int:
        return int(self._api.memory_allocated())

    def start_peak(self) -> None:
        self._api.reset_peak_memory_stats()

    def peak(self) -> int:
        return int(self._api.max_memory_allocated())

    def _pinned(self, size: int) -> torch.Tensor:
        """Return a buffer of `size` bytes or more: one whose copy is through, else a new one."""
        through = [copied.query() for copied, _ in self._busy]
        self._free += [buffer for (_, buffer), free in zip(self._busy, through, strict=True) if free]
        self._busy = [busy for busy, free in zip(self._busy, through, strict=True) if not free]
        for i, buffer in enumerate(self._free):
            if buffer.numel() >= size:
                return self._free.pop(i)
        self._free.clear()  # all too small: let them go
        return self._pin(size)
