"""Measure equal members as one batched network, held against each of them by itself in eager."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np

from hpcens.engine import Engine, Hardware, open_hardware
from hpcens.errors import MemberError, RuntimeUnsuited
from hpcens.members import load
from hpcens.members.stacked import load_stacked
from hpcens.profiling.bench import Bench
from hpcens.profiling.loading import Contexts
from hpcens.profiling.passes import Passes
from hpcens.profiling.references import References, rows_to_time
from hpcens.profiling.timing import REPETITIONS
from hpcens.runtimes import Recipe, filled
from hpcens.specs import RunSpec, Space
from hpcens.vocabulary import Array, BatchProfile, Device, Measurement, Profile, ProfileKey, Rows
from hpcens.vocabulary.groups import STACKED

# Of the time to measure a group, what running its members by themselves once may take, where it need not be measured.
_SHARE = 0.25
# Equal members are as fast as each other: so many are timed.
_TIMED = 8
_FIRST_SECONDS = 0.03


def measure_group(
    measurement: Measurement,
    *,
    spec: RunSpec,
    inputs: Sequence[str],
    device: Device,
    space: Space,
    rows: Rows,
    cache: Path,
    others: Rows = (),
    contexts: Contexts | None = None,
) -> Iterator[tuple[ProfileKey, Profile]]:
    """Load the group and time it at the batch sizes that can win; parameters as those of `measure`.

    Its rows/s are those of all its members at once, its output shape that of one of them. One that cannot run so, or
    is slower than its members one after another, is refused with the reason.
    """
    load_first = partial(load, measurement.members[0], spec, inputs=inputs, space=space, cores=device.cores)
    rows, others = rows_to_time(spec, load_first, rows, others)
    references = References(others, probabilities=space == "probabilities")
    full = filled(rows, max(measurement.batch_sizes))
    bench = _GroupBench(
        measurement, spec, tuple(inputs), device, space, full, cache, references, True, contexts or Contexts()
    )
    yield measurement.keys[STACKED], bench.profile()


@dataclass(slots=True)
class _GroupBench(Bench):
    """A group on one device. apart: batch size → rows/s of its members one after another."""

    apart: dict[int, float] = field(default_factory=dict)

    def profile(self) -> Profile:
        """Measure the group, the smallest batch first, as long as it is worth it."""
        sizes = sorted(self.measurement.batch_sizes)
        try:
            self._by_themselves(sizes[0], most=_SHARE * self.measurement.seconds)
            apart = BatchProfile(sizes[0], self.apart[sizes[0]], 0, 0.0)
            profile = self.measured(STACKED, sizes, self.measurement.seconds, apart)
        except (RuntimeUnsuited, MemberError) as error:  # where a member itself is to blame, the run says so
            return Profile(0, 0, 0.0, (), tried=tuple(sizes), refused=error.what)
        batches = {
            size: replace(batch, times=batch.rows_per_second / self.apart[size])
            for size, batch in profile.batches.items()
        }
        return replace(profile, batches=batches, output_shape=profile.output_shape[1:])

    def recipe(self, runtime: str, hardware: Hardware) -> Recipe:
        """Return the recipe of the group."""
        members, cores = self.measurement.members, self.device.cores
        build = partial(load_stacked, members, self.spec, inputs=self.inputs, space=self.space, cores=cores)
        package = self.cache / self.measurement.keys[STACKED].package
        return Recipe(lambda _: build(), runtime, hardware, cores, self.rows, package)

    def need_reference(self, batch: int) -> None:
        """Run the same rows in each of the members, unless that was done."""
        if batch not in self.references.outputs:
            self._by_themselves(batch)

    def _by_themselves(self, batch: int, most: float = math.inf) -> None:
        """Run a batch in each of the members by itself; keep what they give, and how fast they were.

        most  seconds that this, and timing the group, may take; not heeded where the group is to run so anyway
        Raises RuntimeUnsuited where it would take longer.
        """
        hardware = open_hardware(self.device)
        outputs: list[Array] = []
        on_others: list[Array | None] = []
        seconds: list[float] = []
        for member in self.measurement.members:
            engine = Engine(hardware)
            forward = load(member, self.spec, inputs=self.inputs, space=self.space, cores=self.device.cores)
            engine.host(member.name, forward, batch=batch)
            staged = self.staged(hardware, batch)
            began = time.perf_counter()
            engine.run(member.name, staged)
            first = time.perf_counter() - began
            all_of_them = len(self.measurement.members) * first * 2 * REPETITIONS
            if not outputs and not self.measurement.thorough and all_of_them > most:
                raise RuntimeUnsuited(
                    f"{STACKED}: batches of {batch} rows take {first:.2g} s in each member, too long to gain much"
                )
            self.references.limit(batch / (len(self.measurement.members) * first), self.measurement.seconds)
            values, _ = engine.run(member.name, staged)
            if len(outputs) < _TIMED:
                passes = Passes(engine, member.name, staged, most=_FIRST_SECONDS)
                took = [passes.seconds() for _ in range(REPETITIONS)]
                seconds.append(statistics.median(took) * batch / passes.rows)
            outputs.append(values)
            on_others.append(self.references.on_others(engine, member.name))
            engine.clear()
        others = [array for array in on_others if array is not None]
        both = np.stack(others, 1) if len(others) == len(outputs) else None
        self.references.outputs[batch] = np.stack(outputs, 1), both
        self.apart[batch] = batch / (len(outputs) * statistics.median(seconds))
