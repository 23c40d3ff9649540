"""CUDA devices: pinned staging, copies on a stream of their own, memory as the card itself counts it.

One process per device. Rows are copied into a pinned buffer and sent on the copy stream while the
compute stream is busy with the segment before; an event makes the compute stream wait for them. A
pinned buffer is used again once its copy is through, so as many exist as segments are ahead. Rows that
lie in registered memory are sent from there: it stays as it is until their segment is computed.
Outputs go the other way batch by batch, each straight to its place in pinned memory.

Rows may be staged by another thread than the one that computes, and torch keeps the current device per
thread: each way in sets it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from hpcens.engine.cuda_words import is_of_the_device, says_out_of_memory
from hpcens.engine.registered import Registered
from hpcens.specs import Precision
from hpcens.vocabulary import Array

# Bytes that CUDA takes of a GPU for a process, where the driver does not say how much was free before.
_CONTEXT = 1280 << 20
# The generation whose tensor cores take TF32 and bfloat16.
_AMPERE = 8
RECORDING = threading.Lock()
"""Held while a graph is recorded, and while rows are staged: memory that is taken meanwhile would be the graph's."""


@dataclass(frozen=True, slots=True, eq=False)
class _Staged:
    """Rows on their way to the device, and the event that says they are there."""

    rows: torch.Tensor
    copied: Any


@dataclass(slots=True, eq=False)
class _Room:
    """Outputs on their way to the host: where they arrive, and the event that says they are there."""

    values: torch.Tensor
    copied: Any


def _pinned(size: int) -> torch.Tensor:
    return torch.empty(size, dtype=torch.uint8, pin_memory=True)


class CudaHardware:
    """One GPU."""

    ahead = 1
    cold = True

    def __init__(
        self,
        device: torch.device,
        api: Any = torch.cuda,
        pin: Callable[[int], torch.Tensor] = _pinned,
        view: Callable[[Array], torch.Tensor] = torch.from_numpy,
        *,
        name: str = "GPU",
        free_before: int | None = None,
        memory: int | None = None,
    ) -> None:
        """Use one GPU for this process.

        device       where tensors live
        api          torch's CUDA interface
        pin          makes a pinned buffer of so many bytes
        view         makes a tensor of an array's own memory
        name         what errors call it
        free_before  bytes that were free before this process started CUDA; None where nobody knows
        memory       bytes of the GPU that this process may take; None: all there are
        """
        self.name = name
        self._device = device
        self.api = api
        self._pin = pin
        self.api.set_device(device)
        self._copies = self.api.Stream()
        self._free: list[torch.Tensor] = []
        self._busy: list[tuple[Any, torch.Tensor]] = []
        self._registered = Registered(device, api, view)
        free, total = self.api.mem_get_info()
        self._free_before = free + self._taken() + _CONTEXT if free_before is None else free_before
        if memory is not None:
            own = max(0, memory - (self.resident() - self._taken()))
            self.api.set_per_process_memory_fraction(min(1.0, own / total))

    def lacks(self, precision: Precision) -> str:
        if precision not in ("tf32", "bfloat16"):
            return ""
        if torch.version.hip is not None:
            return "torch has no TF32 on GPUs of AMD's" if precision == "tf32" else ""
        major, minor = self.api.get_device_capability()
        word = "TF32" if precision == "tf32" else precision
        return (
            ""
            if major >= _AMPERE
            else f"{word} is of compute capability 8.0 and more, and this GPU has {major}.{minor}"
        )

    def enter(self) -> None:
        self.api.set_device(self._device)

    def register(self, pieces: Sequence[Array]) -> str:
        self.enter()
        self._registered.clear()
        return self._registered.add(pieces)

    def unregister(self) -> None:
        self.enter()
        self._registered.clear()

    def stage(self, rows: Array) -> _Staged:
        self.enter()
        with RECORDING:
            buffer = None
            source = self._registered.find(rows)
            if source is None:
                buffer = self._pinned(rows.nbytes)
                source = buffer[: rows.nbytes]
                source.copy_(torch.from_numpy(rows.reshape(-1).view("u1")))
            try:
                with self.api.stream(self._copies):
                    on_device = source.to(self._device, non_blocking=True)
            except Exception:
                if buffer is not None:
                    self._free.append(buffer)
                raise
            copied = self.api.Event()
            copied.record(self._copies)
            if buffer is not None:
                self._busy.append((copied, buffer))
        dtype = torch.from_numpy(rows[:0]).dtype
        return _Staged(on_device.view(dtype).reshape(rows.shape), copied)

    def receive(self, staged: _Staged) -> torch.Tensor:
        self.enter()
        # rows outlive all that is computed from them: every fetch waits for the compute stream
        self.api.current_stream().wait_event(staged.copied)
        return staged.rows

    def place(self, module: torch.nn.Module) -> torch.nn.Module:
        self.enter()
        move_graphs(module, self._device)
        return module.to(self._device)

    def room(self, shape: Sequence[int], dtype: torch.dtype) -> _Room:
        size = torch.empty(0, dtype=dtype).element_size()
        for of in shape:
            size *= of
        # torch keeps pinned memory: it is used again once neither a copy nor an array needs it
        memory = self._new_pinned(max(1, size))[:size]
        return _Room(memory.view(dtype).reshape(tuple(shape)), self.api.Event())

    def put(self, room: _Room, start: int, values: torch.Tensor) -> None:
        values = values.detach().resolve_neg().contiguous()
        room.values[start : start + len(values)].copy_(values, non_blocking=True)
        room.copied.record(self.api.current_stream())

    def fetch(self, room: _Room) -> Array:
        room.copied.synchronize()
        values: Array = room.values.numpy()
        return values

    def out_of_memory(self, error: BaseException) -> bool:
        # libraries and pinned memory are not the allocator's: their errors are recognised by their text
        return isinstance(error, self.api.OutOfMemoryError) or (
            isinstance(error, RuntimeError) and says_out_of_memory(str(error))
        )

    def failure(self, error: BaseException) -> str:
        if self.out_of_memory(error) or not isinstance(error, RuntimeError) or not is_of_the_device(str(error)):
            return ""
        return str(error).strip().splitlines()[0][:200]

    def release(self) -> None:
        self.enter()
        self.api.synchronize()
        self.api.empty_cache()

    def resident(self) -> int:
        self.api.synchronize()
        free, _ = self.api.mem_get_info()
        return max(0, self._free_before - int(free))

    def start_peak(self) -> None:
        self.api.reset_peak_memory_stats()

    def peak(self) -> int:
        # what libraries take beside the allocator they keep: it is there when the pass is over
        beside = self.resident() - self._taken()
        return int(self.api.max_memory_reserved()) + beside

    def _taken(self) -> int:
        """Return the bytes that torch's allocator holds of the card, in use or kept."""
        return int(self.api.memory_reserved())

    def _pinned(self, size: int) -> torch.Tensor:
        """Return a buffer of `size` bytes or more: one whose copy is through, else a new one."""
        through = [copied.query() for copied, _ in self._busy]
        self._free += [buffer for (_, buffer), free in zip(self._busy, through, strict=True) if free]
        self._busy = [busy for busy, free in zip(self._busy, through, strict=True) if not free]
        for i, buffer in enumerate(self._free):
            if buffer.numel() >= size:
                return self._free.pop(i)
        self._free.clear()  # all too small: let them go
        return self._new_pinned(size)

    def _new_pinned(self, size: int) -> torch.Tensor:
        """Return a new buffer, to be written to in any mode of autograd: one made in inference mode is not."""
        with torch.inference_mode(False):
            return self._pin(size)


def move_graphs(module: torch.nn.Module, device: torch.device) -> None:
    """Let exported programs in the module make their own tensors on the device, not on that of their export."""
    for part in module.modules():
        if not isinstance(part, torch.fx.GraphModule):
            continue
        nodes = [node for node in part.graph.nodes if node.op == "call_function"]
        for node in nodes:
            if isinstance(node.kwargs.get("device"), torch.device):
                node.kwargs = {**node.kwargs, "device": device}
            node.args = tuple(device if isinstance(of, torch.device) else of for of in node.args)
        if nodes:
            part.recompile()


def every_gpu(api: Any = torch.cuda) -> list[tuple[str, str, str, int, int]]:
    """Return place, name for `pinning.pin`, model, bytes and free bytes of each GPU that torch sees."""
    found = []
    for i in range(api.device_count()):
        free, total = api.mem_get_info(i)
        found.append((str(i), f"torch:{i}", str(api.get_device_name(i)), int(total), int(free)))
    return found


def settle() -> None:
    """Let torch compute the same bits each time, and float32 as float32, unless a member asks for something else."""
    backends: Any = torch.backends
    backends.cudnn.allow_tf32 = backends.cuda.matmul.allow_tf32 = False
    backends.cudnn.benchmark = False  # it takes the algorithm that was fastest this time
    backends.cudnn.deterministic = True
    # TorchScript rewrites a graph after its first batches, which then are not computed like the others
    for name in ("_jit_set_texpr_fuser_enabled", "_jit_override_can_fuse_on_gpu", "_jit_set_nvfuser_enabled"):
        if (switch := getattr(torch._C, name, None)) is not None:
            switch(False)
