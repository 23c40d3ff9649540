"""A stand-in for torch's CUDA interface on the CPU: memory that runs out on command, copies that end when told.

A copy moves no byte before its event is through: rows that are read too early are 0xff (NaN), and a
pinned buffer that is written too early sends what was written. As in torch, the current device is one
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
    """Through once told, or once a stream waited for it."""

    def __init__(self, api):
        self._api = api
        self._copies = None

    def record(self, stream):
        self._copies, stream.under_way = stream.under_way, []
        self._api.events.append(self)

    def query(self):
        return not self._copies

    def finish(self):
        assert self._copies is not None, "an event that was never recorded is no reason to wait"
        for source, target in self._copies:
            if (memory := target()) is not None:  # else given back: what comes next on this stream comes after
                memory[:] = source.numpy()
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
    """As torch.cuda.CUDAGraph: replayed, the same operators write to the same memory."""

    def __init__(self):
        self.recorder = Recorder()

    def replay(self):
        for operator, args, kwargs, given in self.recorder.tape:
            new = operator(*args, **kwargs)
            pairs = zip(given, new, strict=True) if isinstance(given, tuple) else [(given, new)]
            for old, of in pairs:
                if isinstance(of, torch.Tensor) and of.data_ptr() != old.data_ptr():
                    old.copy_(of)


class FakeCuda:
    """`api` of a CudaHardware, `pin` its pinned memory.

    room    bytes of rows that fit the device at once (None: any)
    pinned  every pinned buffer made
    events  every event recorded, in order
    """

    OutOfMemoryError = OutOfMemory

    def __init__(self, room=None):
        self.room = room
        self.used = 0
        self.highest = 0
        self.released = 0
        self.pinned = []
        self.events = []
        self._here = threading.local()
        self._compute = Stream()
        self.recording = None
        api = self

        class Pinned(torch.Tensor):
            def to(self, device, non_blocking):
                assert non_blocking, "the host would wait for this copy"
                return api._send(self.as_subclass(torch.Tensor))

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
        return Graph()

    @contextlib.contextmanager
    def graph(self, graph):
        """What is computed meanwhile is recorded: here, the operators that were run and the tensors they wrote."""
        self.recording = "graph"
        try:
            with graph.recorder:
                yield
        finally:
            self.recording = None

    def empty_cache(self):
        self.released += 1

    def memory_allocated(self):
        self._require_device()
        return self.used

    def reset_peak_memory_stats(self):
        self._require_device()
        self.highest = self.used

    def max_memory_allocated(self):
        self._require_device()
        return self.highest

    def pin(self, size):
        self._require_device()
        self.pinned.append(torch.full((size,), 255, dtype=torch.uint8).as_subclass(self._kind))
        return self.pinned[-1]

    def _require_device(self):
        assert hasattr(self._here, "device"), "this thread works on whichever GPU is the first"

    def _send(self, source):
        stream = self.current_stream()
        assert stream is not self._compute, "this copy would wait for what is computed"
        size = source.numel()
        if self.room is not None and self.used + size > self.room:
            raise OutOfMemory(f"CUDA out of memory. Tried to allocate {size} bytes")
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
