"""The recipe: how a member comes to run on a device. Loaded, placed, and prepared for batches of one size."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from hpcens.engine import Hardware, ran_out, require_device
from hpcens.errors import HpcensError, RuntimeUnsuited
from hpcens.members import Forward, Network, cause_of
from hpcens.runtimes.catalogue import RUNTIMES
from hpcens.runtimes.prepare import kept, prepare
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
    whole    whether the network takes batches of any size: only then is it known without building it what was kept
    """

    load: Callable[[Network | None], Forward]
    runtime: str
    hardware: Hardware
    cores: int
    rows: Rows
    package: Path
    whole: bool = False

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
        package = self.package.with_name(f"{self.package.name}-{batch}")
        if self.whole and (forward := self._kept(batch, package)) is not None:
            return forward
        forward = self.load(None)
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
                forward.execute(partial(self._prepared, package), rows)
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

    def _kept(self, batch: int, package: Path) -> Forward | None:
        """Load the member around what was kept of an earlier preparation: its own network is not even built."""
        module = kept(self.runtime, cores=self.cores, package=package)
        if module is None:
            return None
        forward = self.load(Network(module, batch, batch))
        self.hardware.place(forward)
        return forward

    def _prepared(self, package: Path, network: Network, inputs: Sequence[torch.Tensor]) -> Network:
        return prepare(self.runtime, network, inputs, cores=self.cores, package=package)


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
