"""CPU devices: rows are already where they are needed; memory is that of the process."""

from __future__ import annotations

import contextlib
import ctypes
import re
from collections.abc import Sequence
from pathlib import Path

import torch

from hpcens.arrays import Buffers
from hpcens.specs import Precision
from hpcens.vocabulary import Array

# of malloc.h, for mallopt
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8
_NEVER = (1 << 31) - 1


class CpuHardware:
    """A group of CPU cores."""

    name = "CPU"
    ahead = 0
    cold = False

    def __init__(self, cores: int) -> None:
        """Compute with `cores` threads."""
        self._cores = cores
        self._libc = ctypes.CDLL(None)
        self._buffers = Buffers()
        self._keep_memory()

    def _keep_memory(self) -> None:
        """Keep freed memory with the process until `release`, in one arena that all threads share.

        Activations come and go with every batch. glibc would give the large ones back to the kernel each time, and
        have their pages filled with zeros anew: that took up to half the time of a network of small operators.
        """
        if hasattr(self._libc, "mallopt"):
            for option in (_MMAP_THRESHOLD, _TRIM_THRESHOLD):
                self._libc.mallopt(option, _NEVER)
            self._libc.mallopt(_ARENA_MAX, 1)

    def lacks(self, precision: Precision) -> str:
        return "TF32 is of GPUs, and this is a CPU" if precision == "tf32" else ""

    def enter(self) -> None:
        pass

    def register(self, pieces: Sequence[Array]) -> str:
        return ""

    def unregister(self) -> None:
        pass

    def stage(self, rows: Array) -> torch.Tensor:
        return torch.from_numpy(self._buffers.aligned(rows))

    def receive(self, staged: torch.Tensor) -> torch.Tensor:
        torch.set_num_threads(self._cores)  # per thread in OpenMP: set in the thread that computes
        return staged

    def place(self, module: torch.nn.Module) -> torch.nn.Module:
        return module

    def room(self, shape: Sequence[int], dtype: torch.dtype) -> Array:
        return self._buffers.empty(shape, str(dtype).removeprefix("torch."))

    def put(self, room: Array, start: int, values: torch.Tensor) -> None:
        if values.is_neg() or values.requires_grad:
            values = values.detach().resolve_neg()
        room[start : start + len(values)] = values.numpy()

    def fetch(self, room: Array) -> Array:
        return room

    def out_of_memory(self, error: BaseException) -> bool:
        return isinstance(error, MemoryError) or (
            isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
        )

    def failure(self, error: BaseException) -> str:
        return ""

    def release(self) -> None:
        if hasattr(self._libc, "malloc_trim"):
            self._libc.malloc_trim(0)

    def resident(self) -> int:
        return _status("VmRSS")

    def start_peak(self) -> None:
        # some containers forbid it: the peak is then that of the whole process so far
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")

    def peak(self) -> int:
        return _status("VmHWM")


def _status(field: str) -> int:
    """Read a figure of this process's status, in bytes; 0 where the kernel does not give it."""
    line = re.search(rf"^{field}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    return int(line[1]) << 10 if line else 0
