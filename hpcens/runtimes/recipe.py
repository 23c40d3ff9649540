"""The recipe: how a member comes to run on a device. Loaded, placed, and prepared for batches of one size."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from hpcens.engine import Hardware, ran_out, require_device
from hpcens.errors import HpcensError, RuntimeUnsuited
from hpcens.members import Forward, Network, cause_of
from hpcens.runtimes.catalogue import RUNTIMES
from hpcens.runtimes.prepare import kept, of_one_size, prepare
from hpcens.usercode import describe_exception
from hpcens.vocabulary import Rows
from hpcens.vocabulary.groups import STACKED


@dataclass(frozen=True, slots=True)
class Recipe:
    """All it takes.

    load     loads the member on the CPU: its own network, or around one that was prepared before
    cores    threads of a CPU device
    rows     rows of the dataset, (rows, *row shape) of each input; repeated where a batch needs more
    package  path under which what took long to prepare is kept, without the batch size and a suffix
    recorded path of what is kept of the runtime that is recorded; None where none is, or nothing is kept
    whole    whether the network takes batches of any size: only then is it known without building it what was kept
    """

    load: Callable[[Network | None], Forward]
    runtime: str
    hardware: Hardware
    cores: int
    rows: Rows
    package: Path
    whole: bool = False
    recorded: Path | None = None

    @property
    def fixed(self) -> bool:
        """Whether the member that is made runs batches of one size alone."""
        return RUNTIMES[self.runtime].module is not None

    def make(self, batch: int) -> Forward:
        """Make the member, ready for batches of this size.

        Raises MemberError where it cannot be loaded, RuntimeUnsuited where it cannot run in this runtime, and
        what `ran_out` recognises.
        """
        self.hardware.enter()
        of = self.package if self.recorded is None else self.recorded
        package = of.with_name(f"{of.name}-{batch}")
        kept = self._kept(batch, package) if self.whole else None
        if kept is not None and self._records is None:
            return kept
        forward = kept or self.load(None)
        if self.runtime in ("eager", STACKED):
            self.hardware.place(forward)
            return forward
        with forward.surroundings.around():
            examples = filled(accepted(forward, self.rows), batch)
        self.hardware.place(forward)
        try:
            # preparing imports much of torch, which is none of the member's doing
            with forward.surroundings.around(report=False), torch.inference_mode():
                rows = [self.hardware.receive(self.hardware.stage(array)) for array in examples]
                if kept is None:
                    forward.execute(partial(self._prepared, package), rows)
                if self._records is not None:
                    self._record(forward, rows)
        except HpcensError:
            raise
        except Exception as error:
            if ran_out(self.hardware, error):
                raise
            require_device(self.hardware, error)
            raise RuntimeUnsuited(
                f"{self.runtime}: {describe_exception(cause_of(error)).splitlines()[0][:200]}"
            ) from error
        return forward

    @property
    def _records(self) -> str | None:
        return RUNTIMES[self.runtime].records

    def _record(self, forward: Forward, rows: Sequence[torch.Tensor]) -> None:
        """Record all that the member does, or where that cannot be, its network alone."""
        from hpcens.runtimes.cuda_graphs import CudaGraph, replayed

        api = getattr(self.hardware, "api", torch.cuda)
        if forward.recordable:
            taken = [rows[place] for place in forward.inputs]
            with suppress(RuntimeUnsuited):  # the network alone may do where a step of hpcens' does not
                forward.replayed = replayed(forward, taken, api)
                return

        def recorded(module: torch.nn.Module, inputs: Sequence[torch.Tensor]) -> torch.nn.Module:
            return CudaGraph(module, inputs, api)

        forward.execute(lambda network, inputs: of_one_size(network, inputs, recorded), rows)

    def _kept(self, batch: int, package: Path) -> Forward | None:
        """Load the member around what was kept of an earlier preparation: its own network is not even built."""
        module = kept(self._records or self.runtime, cores=self.cores, package=package)
        if module is None:
            return None
        forward = self.load(Network(module, batch, batch))
        self.hardware.place(forward)
        return forward

    def _prepared(self, package: Path, network: Network, inputs: Sequence[torch.Tensor]) -> Network:
        return prepare(self._records or self.runtime, network, inputs, cores=self.cores, package=package)


def accepted(forward: Forward, rows: Rows) -> Rows:
    """Return those of the rows on which the member's preprocessing does not raise; all where it does on each.

    rows  (rows, *row shape) of each input
    """
    inputs = [torch.from_numpy(array) for array in rows]
    if forward.accepts(inputs):
        return rows
    good = [row for row in range(len(inputs[0])) if forward.accepts([x[row : row + 1] for x in inputs])]
    return tuple(array[good] for array in rows) if good else rows


def filled(rows: Rows, count: int) -> Rows:
    """Return `count` rows of each input, repeated where there are fewer."""
    return tuple(array[[i % len(array) for i in range(count)]] for array in rows)
