"""A stand-in for torch's CUDA interface on the CPU: memory that runs out on command, copies that end when told."""

import contextlib

import torch


class OutOfMemory(RuntimeError):
    pass


class Stream:
    def __init__(self):
        self.waited_for = []

    def wait_event(self, event):
        self.waited_for.append(event)


class Event:
    """A copy is through once somebody waited for it, or `finish` was called."""

    def __init__(self, api):
        self._api = api
        self.done = False

    def record(self, stream):
        assert stream is self._api.copying, "a copy is to be recorded on the stream it runs on"
        self._api.events.append(self)

    def query(self):
        return self.done


class FakeCuda:
    """`rows`: a forward pass or a staging of more rows than this runs out of memory."""

    OutOfMemoryError = OutOfMemory

    def __init__(self, rows=None):
        self.rows = rows
        self.events = []
        self.pinned = []
        self.copying = None
        self.released = 0
        self._compute = Stream()

    def set_device(self, device):
        self.device = device

    def Stream(self):  # noqa: N802 - torch's name
        return Stream()

    def Event(self):  # noqa: N802
        return Event(self)

    @contextlib.contextmanager
    def stream(self, stream):
        self.copying = stream
        yield
        self.copying = stream

    def current_stream(self):
        return self._compute

    def empty_cache(self):
        self.released += 1

    def memory_allocated(self):
        return 0

    def reset_peak_memory_stats(self):
        pass

    def max_memory_allocated(self):
        return 0

    def pin(self, size):
        self.pinned.append(torch.empty(size, dtype=torch.uint8))
        return self.pinned[-1]


class Limited(torch.nn.Module):
    """A network on a device whose allocator runs out beyond `api.rows` rows."""

    def __init__(self, module, api):
        super().__init__()
        self.module = module
        self.api = api
        self.seen = []

    def forward(self, x):
        self.seen.append(len(x))
        if self.api.rows is not None and len(x) > self.api.rows:
            raise self.api.OutOfMemoryError(f"tried to allocate room for {len(x)} rows")
        return self.module(x)
