"""Measure members on the device of one rank."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from hpcens.checks.preflight import Preflight
from hpcens.engine import driver, open_hardware, use_cores
from hpcens.profiling.book import ProfileBook
from hpcens.profiling.precisions import race
from hpcens.specs import Job
from hpcens.vocabulary import Device, Measurement, Profile, ProfileKey, Rows


@dataclass(frozen=True, slots=True)
class MissingRates:
    """What the ranks of a start are to measure before there can be a plan.

    measurements  of members, by the rank of the device that does them
    rows          of the dataset, for each input, on which members are measured
    others        further rows, from all over the dataset, on which runtimes are held against eager
    readers       ranks that may be readers, which read at once
    """

    measurements: Mapping[int, Sequence[Measurement]]
    rows: Rows
    others: Rows
    readers: tuple[int, ...]

    @property
    def without_rows(self) -> MissingRates:
        """The same without rows, which only who measures needs."""
        return replace(self, rows=(), others=())

    def with_rows(self, rows: tuple[Rows, Rows] | None) -> MissingRates:
        """Return the same with the rows and further ones; None: this rank needs none."""
        return self if rows is None else replace(self, rows=rows[0], others=rows[1])


def measure_on(
    device: Device, measurements: Sequence[Measurement], rows: Rows, others: Rows, job: Job, preflight: Preflight
) -> list[tuple[ProfileKey, Profile]]:
    """Take the measurements, one after another.

    rows, others  as in `MissingRates`
    Raises DeviceOutOfMemory where not even the smallest batch of a member fits.
    """
    use_cores(device.cores)
    from hpcens.profiling.bench import measure  # imports torch, which reads the number of cores once
    from hpcens.profiling.group_bench import measure_group
    from hpcens.profiling.loading import Contexts

    where: dict[str, Any] = {
        "spec": job.spec,
        "inputs": preflight.facts.names,
        "device": device,
        "space": preflight.space,
        "rows": rows,
        "others": others,
        "cache": ProfileBook.default().prepared,
        "contexts": Contexts(),
    }
    take, hardware = partial(measure, **where), open_hardware(device)
    under = driver() if device.family == "cuda" else ""
    return [
        (key, replace(profile, name=measurement.member.name, measured=time.time(), driver=under))
        for measurement in measurements
        for key, profile in (
            measure_group(measurement, **where) if measurement.members else race(measurement, take, hardware)
        )
    ]
