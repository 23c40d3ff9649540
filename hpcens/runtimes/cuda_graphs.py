"""cuda_graphs: a network whose kernels are recorded once and from then on launched all at once.

What cannot be recorded is found out before: it makes the host wait, and torch is asked to refuse that in the passes
that warm up. A recording that fails all the same is undone: the stream is the one of before, and the allocator lets go
of the pool that it had begun, without which it would never again free memory on running out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, cast

import torch

from hpcens.engine.cuda import RECORDING
from hpcens.errors import RuntimeUnsuited
from hpcens.members.forward import Forward, Replayed

_WARM_UP = 3


def _end_pool(pool: Any) -> None:
    """Let the allocator go on as before a recording that was given up; torch does so after those that end well."""
    device = torch.cuda.current_device()
    for name in ("_cuda_endAllocateToPool", "_cuda_releasePool"):
        if (undo := getattr(torch._C, name, None)) is not None:
            with suppress(RuntimeError):  # torch has done it
                undo(device, pool)


class CudaGraph(torch.nn.Module):
    """A module for inputs of one shape each: they are copied to where the recorded kernels look for them."""

    def __init__(
        self,
        module: torch.nn.Module,
        inputs: Sequence[torch.Tensor],
        api: Any = torch.cuda,
        end_pool: Callable[[Any], None] = _end_pool,
    ) -> None:
        """Record the module's kernels.

        inputs    (batch, *row shape) of each input, on the device
        api       torch's CUDA interface
        end_pool  undoes what a recording has begun in the allocator
        Raises RuntimeUnsuited where the host has to wait amid it, and whatever the recording raises.
        """
        super().__init__()
        self._inputs = [x.clone() for x in inputs]
        aside = api.Stream()
        aside.wait_stream(api.current_stream())
        # libraries choose their kernels and ask for memory in the first passes, which must not be recorded
        with api.stream(aside), _no_waiting(api) as last:
            for i in range(_WARM_UP):
                last(i == _WARM_UP - 1)
                module(*self._inputs)
        api.current_stream().wait_stream(aside)
        api.synchronize()
        api.empty_cache()
        self._module = module  # its weights are where the kernels look for them
        self._graph = api.CUDAGraph()
        pool = api.graph_pool_handle()
        with RECORDING, api.stream(aside):
            self._graph.capture_begin(pool=pool, capture_error_mode="thread_local")
            try:
                self._output: Any = module(*self._inputs)
            except BaseException:
                with suppress(RuntimeError):  # which says again that it failed
                    self._end(pool, end_pool)
                raise
            self._end(pool, end_pool)

    def _end(self, pool: Any, end_pool: Callable[[Any], None]) -> None:
        """End the recording. Where that fails the pool is let go here; else the graph does so, and only one may."""
        try:
            self._graph.capture_end()
        except BaseException:
            end_pool(pool)
            raise

    def forward(self, *inputs: torch.Tensor) -> Any:
        """Return a copy of the graph's output, or of each, for inputs of the batch size that was captured."""
        for place, x in zip(self._inputs, inputs, strict=True):
            place.copy_(x)
        self._graph.replay()
        # the next replay writes there
        return self._output.clone() if isinstance(self._output, torch.Tensor) else [x.clone() for x in self._output]


def replayed(forward: Forward, rows: Sequence[torch.Tensor], api: Any) -> Replayed:
    """Record all that a member does for a batch of rows, (batch, *row shape) of each input, as they are stored.

    Returns what gives it again for other rows, of a smaller batch too. Raises as `CudaGraph`.
    """
    graph, batch = CudaGraph(_Both(forward), rows, api), len(rows[0])
    del graph._module  # who holds this holds the weights: in a circle, their memory would stay for a while

    def run(some: Sequence[torch.Tensor]) -> Sequence[torch.Tensor]:
        count = len(some[0])
        if count == batch:
            return cast(list[torch.Tensor], graph(*some))
        whole = [torch.cat([x, x[-1:].expand(batch - count, *x.shape[1:])]) for x in some]
        return [values[:count] for values in graph(*whole)]

    return run


class _Both(torch.nn.Module):
    """What a member itself gives, and its output."""

    def __init__(self, forward: Forward) -> None:
        super().__init__()
        self.training = False
        self._forward = [forward]  # not among its modules, whose mode is not to be asked for

    def forward(self, *rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self._forward[0].both(*rows)


@contextmanager
def _no_waiting(api: Any) -> Iterator[Callable[[bool], None]]:
    """Give what tells whether the next pass is one in which torch refuses to let the host wait for the GPU.

    The first ones may: what is computed once and kept is computed there.
    """
    before = api.get_sync_debug_mode()

    def refuse(refused: bool) -> None:
        api.set_sync_debug_mode("error" if refused else before)

    try:
        yield refuse
    except RuntimeError as error:
        if "synchronizing CUDA operation" in str(error):
            raise RuntimeUnsuited(
                "cuda_graphs: the host waits for the GPU in its forward, by .item() or .cpu()"
            ) from error
        raise
    finally:
        api.set_sync_debug_mode(before)
