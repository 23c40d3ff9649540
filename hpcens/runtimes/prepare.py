"""Preparing: from a network to one that runs in a runtime, for batches of one size."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Protocol, cast

import torch

from hpcens.errors import RuntimeUnsuited
from hpcens.members import Network
from hpcens.runtimes import kept_files
from hpcens.runtimes.catalogue import RUNTIMES, keeps_files
from hpcens.runtimes.channels_last import ChannelsLast


class _Keeper(Protocol):
    """The module of a runtime that keeps what takes long to prepare in files.

    files      the files' paths, from that of the package, which has no suffix
    build      make the module for inputs of these shapes, and write it to a file, with others beside it; whatever it
               raises says that it cannot
    open_kept  open what an earlier build has written, from its files in their order
    """

    def files(self, package: Path) -> tuple[Path, ...]: ...
    def build(
        self, module: torch.nn.Module, inputs: Sequence[torch.Tensor], cores: int, file: Path
    ) -> torch.nn.Module: ...
    def open_kept(self, files: Sequence[Path], cores: int) -> torch.nn.Module: ...


def prepare(runtime: str, network: Network, inputs: Sequence[torch.Tensor], *, cores: int, package: Path) -> Network:
    """Return the network as the runtime executes it, on the device of its inputs; what it was made of is used up.

    inputs   real ones, (batch, *row shape) each: all runtimes but eager and channels_last run batches of this size
             alone
    cores    threads of a CPU
    package  path, without suffix, under which what took long is kept for the next time
    Raises RuntimeUnsuited where the network cannot run so, and whatever the runtime raises.
    """
    if runtime == "eager":
        return network
    if runtime == "channels_last":
        return replace(network, module=ChannelsLast(network.module, inputs))
    return of_one_size(network, inputs, lambda module, some: _executed(runtime, module, some, cores, package))


def of_one_size(
    network: Network,
    inputs: Sequence[torch.Tensor],
    make: Callable[[torch.nn.Module, Sequence[torch.Tensor]], torch.nn.Module],
) -> Network:
    """Return the network as it is made for batches as large as these inputs, or as the largest that it takes.

    Raises RuntimeUnsuited where it takes larger ones alone.
    """
    inputs = [x[: network.most or len(x)].contiguous() for x in inputs]
    rows = len(inputs[0])
    if rows < network.least:
        raise RuntimeUnsuited(f"it runs {network.least} rows and more, and the batch has {rows}")
    return Network(make(network.module, inputs), rows, rows)


def kept(runtime: str, *, cores: int, package: Path) -> torch.nn.Module | None:
    """Open what an earlier `prepare` has kept under this path; None where that cannot be, and it is made anew.

    Warns where a file is not what was written.
    """
    if not keeps_files(runtime):
        return None
    try:
        keeper = _keeper(runtime)
        files = kept_files.intact(keeper.files(package))
        return keeper.open_kept(files, cores) if files is not None else None
    except Exception:  # whatever the runtime raises where the file is another machine's
        return None


def open_runtime(runtime: str) -> ModuleType | None:
    """Import the runtime's module with all that it imports; None for those without one."""
    module = RUNTIMES[runtime].module
    return import_module(f"hpcens.runtimes.{module}") if module else None


def _keeper(runtime: str) -> _Keeper:
    return cast(_Keeper, open_runtime(runtime))


def _executed(
    runtime: str, module: torch.nn.Module, inputs: Sequence[torch.Tensor], cores: int, package: Path
) -> torch.nn.Module:
    """Open what was kept for inputs of these shapes, else build it."""
    if (opened := kept(runtime, cores=cores, package=package)) is not None:
        return opened
    if runtime == "frozen_channels_last":
        module = ChannelsLast(module, inputs)
    keeper = _keeper(runtime)
    with kept_files.kept(keeper.files(package)) as file:
        return keeper.build(module, inputs, cores, file)
