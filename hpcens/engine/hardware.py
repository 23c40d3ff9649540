"""Hardware: what a family of devices does its own way. Thin; everything else is the engine's."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol

from hpcens.engine.gpus import gpu_of
from hpcens.engine.near import keep_near
from hpcens.engine.pinning import index_of_own, pinned
from hpcens.processes import node
from hpcens.specs import Precision
from hpcens.vocabulary import Array, Device

if TYPE_CHECKING:
    import torch


class Hardware(Protocol):
    """One device of a family.

    name   in words, with what tells it from all others
    ahead  members that are begun before the outputs of the first are waited for
    cold   whether a member's first pass takes memory, and chooses algorithms by what is free, for those to come
    """

    name: str
    ahead: int
    cold: bool

    def lacks(self, precision: Precision) -> str:
        """Say why the device itself does not compute in a precision; empty where it does."""

    def enter(self) -> None:
        """Let this thread work on the device: each that does is to say so first."""

    def register(self, pieces: Sequence[Array]) -> str:
        """Let the device copy by itself what lies in this memory, uint8 (bytes,) each, instead of what was registered.

        Say why it cannot, after which rows are copied once more on their way; empty where it can, or has no need to.
        """

    def unregister(self) -> None:
        """Let go of memory that was registered, which may go then."""

    def stage(self, rows: Array) -> Any:
        """Begin to bring rows to the device, without waiting. May raise what `out_of_memory` recognises.

        Rows in registered memory are to stay as they are until something computed from them was fetched.
        """

    def receive(self, staged: Any) -> torch.Tensor:
        """Return the staged rows on the device, ready for what is computed next."""

    def place(self, module: torch.nn.Module) -> torch.nn.Module:
        """Return the module on the device."""

    def room(self, shape: Sequence[int], dtype: torch.dtype) -> Any:
        """Return memory for a segment's outputs, whatever it holds."""

    def put(self, room: Any, start: int, values: torch.Tensor) -> None:
        """Begin to copy values on the device into such memory, from its row `start` on: they may change at once."""

    def fetch(self, room: Any) -> Array:
        """Return what was put into such memory, in host memory and complete on return."""

    def out_of_memory(self, error: BaseException) -> bool:
        """Tell whether the error says that the device's memory is used up."""

    def failure(self, error: BaseException) -> str:
        """Return what the device says where it failed, not what it computed; else nothing."""

    def release(self) -> None:
        """Give back what is cached."""

    def resident(self) -> int:
        """Return the bytes in use now."""

    def start_peak(self) -> None:
        """Forget the highest use so far."""

    def peak(self) -> int:
        """Return the highest bytes in use since `start_peak`."""


_FREE_BEFORE: dict[str, int | None] = {}


def open_hardware(device: Device) -> Hardware:
    """Open the hardware of a device; imports torch."""
    if device.family == "cuda":
        os.environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")  # device indices are nvidia-smi's
        if (uuid := pinned()) not in _FREE_BEFORE:  # later it would count what this process takes itself
            gpu = gpu_of(uuid) if uuid else None
            _FREE_BEFORE[uuid] = gpu.free if gpu else None
            keep_near(gpu.bus if gpu else "")
        os.environ.pop("NVIDIA_TF32_OVERRIDE", None)  # it would set TF32 over what members say
        import torch

        from hpcens.engine.cuda import CudaHardware, settle

        settle()
        index = index_of_own(torch.cuda, device.index)
        return CudaHardware(
            torch.device("cuda", index),
            name=f"GPU {uuid or device.index} ({device.kind.removeprefix('cuda ')}) of {device.host or node()}",
            free_before=_FREE_BEFORE[uuid],
            memory=device.memory,
        )
    from hpcens.engine.cpu import CpuHardware

    return CpuHardware(device.cores)


def use_cores(cores: int) -> None:
    """Compute with `cores` threads. To be called before torch is imported: its libraries read this once."""
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[variable] = str(cores)
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # torch then asks for huge pages: fewer to fill and to look up


def keep_to_cores(device: Device, of: int) -> None:
    """Keep this process, and the threads it starts, to a part of its cores that no other device of the node takes.

    Where ranks share all cores of a job, which would otherwise wander. Does nothing where these are not just as many
    as the devices have, as where nothing confines a job to its own.

    of  cores that the CPU devices of the node have in all
    """
    cores = sorted(os.sched_getaffinity(0))
    if device.family == "cpu" and os.environ.get("SLURM_CPU_BIND_TYPE") == "none" and len(cores) == of:
        os.sched_setaffinity(0, cores[device.index * device.cores :][: device.cores])


def import_ahead(device: Device) -> None:
    """Begin to import torch for the device, while its rank waits for others.

    Not in a daemon thread: a process that ended amid it would crash.
    """
    use_cores(device.cores)
    threading.Thread(target=import_module, args=("hpcens.engine.engine",), name="import").start()
