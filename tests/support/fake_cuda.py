"""A stand-in for torch's CUDA interface on the CPU: memory that runs out on command, copies that end when told.

A copy moves no byte before its event is through: rows that are read too early are 0xff (NaN), and pinned or
registered memory that is written too early sends what was written. From other memory the host waits, which is
counted. As in torch, the current device is one
per thread, and a thread that did not set it works on another GPU: here that is an error.
"""

import contextlib
import threading
import weakref

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode


class OutOfMemory(RuntimeError):
    """As torch.cuda.OutOfMemoryError."""


class Stream:
    def __init__(self):
        self.under_way = []

    def wait_event(self, event):
        event.finish()

    def wait_stream(self, stream):
        pass


class Event:
    """Through once told, or once a stream or the host waited for it; recorded anew, it stands for what came since."""

    def __init__(self, api):
        self._api = api
        self._copies = None

    def record(self, stream):
        self._copies, stream.under_way = [*(self._copies or ()), *stream.under_way], []
        if self not in self._api.events:
            self._api.events.append(self)

    def synchronize(self):
        self.finish()

    def query(self):
        return not self._copies

    def finish(self):
        assert self._copies is not None, "an event that was never recorded is no reason to wait"
        for source, target in self._copies:
            if (memory := target()) is not None:  # else given back: what comes next on this stream comes after
                memory[...] = source.numpy()
        self._copies = []


class Recorder(TorchDispatchMode):
    """Runs every operator, and keeps it with its arguments and what it gave."""

    def __init__(self):
        super().__init__()
        self.tape = []

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        given = operator(*args, **(kwargs or {}))
        self.tape.append((operator, args, kwargs or {}, given))
        return given


class Graph:
    """As torch.cuda.CUDAGraph: replayed, the same operators write to the same memory, which is of its pool."""

    def __init__(self, api):
        self._api = api
        self.recorder = Recorder()

    def capture_begin(self, pool, capture_error_mode):
        api = self._api
        assert api.current_stream() is not api._compute, "the stream of all else cannot be recorded"
        assert capture_error_mode == "thread_local", "what other threads do meanwhile would spoil it"
        api.capturing = self
        api.allocating_to = pool
        self.recorder.__enter__()

    def capture_end(self):
        api = self._api
        self.recorder.__exit__(None, None, None)
        api.capturing = None
        if api.spoilt:
            api.spoilt = False
            raise RuntimeError("CUDA error: operation failed due to a previous error during capture")
        api.allocating_to = None
        api.raw += api.graph_bytes
        weakref.finalize(self, api.free_raw, api.graph_bytes)

    def replay(self):
        for operator, args, kwargs, given in self.recorder.tape:
            new = operator(*args, **kwargs)
            pairs = zip(given, new, strict=True) if isinstance(given, tuple) else [(given, new)]
            for old, of in pairs:
                if isinstance(of, torch.Tensor) and of.data_ptr() != old.data_ptr():
                    old.copy_(of)


class Cudart:
    """As torch.cuda.cudart(): registers memory that others have mapped too."""

    class cudaError:  # noqa: N801 - as it is called there
        success = 0

    def __init__(self, api):
        self._api = api

    def cudaHostRegister(self, begin, size, flags):  # noqa: N802
        self._api._require_device()
        if len(self._api.registered) >= self._api.registers:
            return 304
        self._api.registered[begin] = size
        return 0

    def cudaHostUnregister(self, begin):  # noqa: N802
        del self._api.registered[begin]
        return 0

    def cudaGetErrorString(self, code):  # noqa: N802
        return "OS call failed or operation not supported on this OS"


class FakeCuda:
    """`api` of a CudaHardware, `pin` its pinned memory, `view` its view of an array's own.

    registers    how many pieces of memory can be registered
    registered   where each piece of registered memory begins → its bytes
    waited       copies for which the host waited: from memory that is neither pinned nor registered
    room         bytes of rows that fit the device at once (None: any)
    pinned       every pinned buffer made from which rows were sent
    events       every event recorded, in order
    uuids        of the GPUs that CUDA shows
    total        bytes of the card
    others       bytes that other processes hold of it
    context      bytes that CUDA takes for this process
    raw          bytes that were taken beside the allocator: by libraries, compiled packages, recorded graphs
    fraction     part of the card that the allocator may take
    graph_bytes  what a recorded graph keeps
    capturing    the graph that is recorded now
    capability   compute capability of the GPUs
    allocating_to  pool that allocations go to: none is freed on running out while it is set
    spoilt       whether what is recorded now has asked for something that cannot be
    """

    OutOfMemoryError = OutOfMemory

    def __init__(self, room=None, uuids=("aa11",), total=16 << 30):
        self.room = room
        self.uuids = uuids
        self.total = total
        self.others = self.raw = self.graph_bytes = 0
        self.context = 500 << 20
        self.fraction = 1.0
        self.capability = (9, 0)
        self.capturing = self.allocating_to = None
        self.spoilt = False
        self.sync_debug = "default"
        self.pools = 0
        self.released_pools = []
        self.used = 0
        self.highest = 0
        self.released = 0
        self._pinned, self._sent_from = [], set()
        self.events = []
        self.registers, self.registered, self.waited = 9, {}, 0
        self._here = threading.local()
        self._compute = Stream()
        api = self

        class Pinned(torch.Tensor):
            def to(self, device, non_blocking):
                assert non_blocking, "the host would wait for this copy"
                return api._send(self.as_subclass(torch.Tensor))

            def copy_(self, values, non_blocking=False):
                plain = self.as_subclass(torch.Tensor)
                if not non_blocking:
                    api._sent_from.add(plain.data_ptr())
                    return plain.copy_(values)
                now = values.expand(
                    plain.shape
                ).clone()  # what comes after on the stream may change it: the copy was before
                plain.view(torch.uint8).fill_(255)
                api.current_stream().under_way.append((now, lambda: plain.numpy()))
                return self

            def numpy(self):
                return self.as_subclass(torch.Tensor).numpy()

        self._kind = Pinned

    def set_device(self, device):
        self._here.device = device

    def Stream(self):  # noqa: N802 - torch's name
        self._require_device()
        return Stream()

    def Event(self):  # noqa: N802
        return Event(self)

    @contextlib.contextmanager
    def stream(self, stream):
        before, self._here.stream = self.current_stream(), stream
        try:
            yield
        finally:
            self._here.stream = before

    def current_stream(self):
        self._require_device()
        return getattr(self._here, "stream", self._compute)

    def CUDAGraph(self):  # noqa: N802
        return Graph(self)

    def graph_pool_handle(self):
        self.pools += 1
        return (0, self.pools)

    def end_pool(self, pool):
        """What torch._C does where a capture was given up: allocations go where they went, and the pool is let go."""
        self.allocating_to = None
        self.released_pools.append(pool)

    def synchronizing(self):
        """Stands for an operator that the host waits for: it cannot be recorded."""
        if self.sync_debug == "error":
            raise RuntimeError("called a synchronizing CUDA operation")
        if self.capturing is not None:
            self.spoilt = True
            raise RuntimeError("CUDA error: operation not permitted when stream is capturing")

    def get_sync_debug_mode(self):
        return self.sync_debug

    def set_sync_debug_mode(self, mode):
        self.sync_debug = mode

    def free_raw(self, size):
        self.raw -= size

    def synchronize(self):
        self._require_device()

    def device_count(self):
        return len(self.uuids)

    def get_device_properties(self, index):
        return type("Properties", (), {"uuid": self.uuids[index]})

    def get_device_capability(self):
        self._require_device()
        return self.capability

    def mem_get_info(self, device=None):
        self._require_device()
        return self.total - self.others - self.context - self.raw - self.used, self.total

    def memory_reserved(self):
        self._require_device()
        return self.used

    def max_memory_reserved(self):
        self._require_device()
        return self.highest

    def set_per_process_memory_fraction(self, fraction):
        self.fraction = fraction

    def empty_cache(self):
        self.released += 1

    def reset_peak_memory_stats(self):
        self._require_device()
        self.highest = self.used

    def pin(self, size):
        self._require_device()
        self._pinned.append(torch.full((size,), 255, dtype=torch.uint8).as_subclass(self._kind))
        return self._pinned[-1]

    @property
    def pinned(self):
        return [buffer for buffer in self._pinned if buffer.data_ptr() in self._sent_from]

    def cudart(self):
        return Cudart(self)

    def view(self, array):
        return torch.from_numpy(array).as_subclass(self._kind)

    def _is_held(self, source):
        """Whether a copy may go on from there by itself."""
        begin, size = source.data_ptr(), source.numel()
        held = [(of.data_ptr(), of.numel()) for of in self._pinned] + list(self.registered.items())
        return any(of <= begin and begin + size <= of + length for of, length in held)

    def _require_device(self):
        assert hasattr(self._here, "device"), "this thread works on whichever GPU is the first"

    def _send(self, source):
        stream = self.current_stream()
        assert stream is not self._compute, "this copy would wait for what is computed"
        size = source.numel()
        room = self.fraction * self.total if self.room is None else self.room
        if self.used + size > room:
            raise OutOfMemory(f"CUDA out of memory. Tried to allocate {size} bytes")
        if not self._is_held(source):
            self.waited += 1
            source = source.clone()
        memory = np.full(size, 255, np.uint8)
        self._take(size)
        weakref.finalize(memory, self._take, -size)
        stream.under_way.append((source, weakref.ref(memory)))
        return torch.from_numpy(memory)

    def _take(self, size):
        self.used += size
        self.highest = max(self.highest, self.used)


class Limited(torch.nn.Module):
    """A network for which there is memory up to `fits` rows (None: any); beyond, `exhaust` is called and raises.

    seen  rows of every forward pass that was tried
    """

    def __init__(self, module, fits=None, exhaust=None):
        super().__init__()
        self.module = module
        self.fits = fits
        self.exhaust = exhaust
        self.seen = []

    def forward(self, x):
        self.seen.append(len(x))
        if self.fits is not None and len(x) > self.fits:
            self.exhaust()
        return self.module(x)
