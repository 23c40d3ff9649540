"""Preparing: from a network to one that runs in a runtime, for batches of one size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import ModuleType

import torch

from hpcens.errors import RuntimeUnsuited
from hpcens.members.network import Network
from hpcens.runtimes.channels_last import ChannelsLast


def prepare(runtime: str, network: Network, inputs: Sequence[torch.Tensor], *, cores: int, package: Path) -> Network:
    """The network as the runtime executes it, on the device of its inputs; what it was made of is used up.

    inputs   real ones, of one whole batch: all but channels_last run batches of this size alone
    cores    threads of a CPU
    package  path, without suffix, under which what took long is kept for the next time
    Raises RuntimeUnsuited where the network cannot run so, and whatever the runtime raises.
    """
    if runtime == "eager":
        return network
    if runtime == "channels_last":
        return replace(network, module=ChannelsLast(network.module, inputs))
    inputs = [x[: network.most or len(x)].contiguous() for x in inputs]
    rows = len(inputs[0])
    if rows < network.least:
        raise RuntimeUnsuited(f"it runs {network.least} rows and more, and the batch has {rows}")
    return Network(_executed(runtime, network.module, inputs, cores, package), rows, rows)


def kept(runtime: str, *, cores: int, package: Path) -> torch.nn.Module | None:
    """What an earlier `prepare` has kept under this path, opened; None where that cannot be, and it is made anew."""
    try:
        return _opened(runtime, cores, package)
    except Exception:  # whatever the runtime raises where the file is damaged, or another machine's
        return None


def _opened(runtime: str, cores: int, package: Path) -> torch.nn.Module | None:
    if runtime == "compiled":
        from hpcens.runtimes.compiled import open_compiled

        return open_compiled(package)
    if runtime == "openvino":
        from hpcens.runtimes.openvino import open_openvino

        return open_openvino(cores, package)
    if runtime in ("frozen", "frozen_channels_last"):
        from hpcens.runtimes.frozen import open_frozen

        return open_frozen(package)
    return None


def open_runtime(runtime: str) -> ModuleType | None:
    """The runtime's module with all that it imports; None for those without one."""
    if runtime in ("eager", "channels_last"):
        return None
    name = "frozen" if runtime == "frozen_channels_last" else runtime
    return import_module(f"hpcens.runtimes.{name}")


def _executed(
    runtime: str, module: torch.nn.Module, inputs: Sequence[torch.Tensor], cores: int, package: Path
) -> torch.nn.Module:
    if (found := kept(runtime, cores=cores, package=package)) is not None:
        return found
    if runtime == "cuda_graphs":
        from hpcens.runtimes.cuda_graphs import CudaGraph

        return CudaGraph(module, inputs)
    if runtime == "compiled":
        from hpcens.runtimes.compiled import compiled

        return compiled(module, inputs, package)
    if runtime == "openvino":
        from hpcens.runtimes.openvino import openvino

        return openvino(module, inputs, cores, package)
    from hpcens.runtimes.frozen import frozen

    if runtime == "frozen_channels_last":
        module = ChannelsLast(module, inputs).eval()
    return frozen(module, inputs, package)
