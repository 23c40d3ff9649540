"""Measure in one process what rows and outputs pass besides the devices: reading, writing and syncing."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from math import inf
from pathlib import Path

from hpcens.dataset import Reading, inspect_speed, reading_speed, sample_rows, spread_rows
from hpcens.result import SPEED_BYTES, sync_seconds, writing_speed
from hpcens.specs import Job
from hpcens.vocabulary import IoRates, Rows

# What was measured of a disk holds for the starts of the same process within so many seconds: those of a world that
# scores small files take less time than the syncs by which it is measured.
_HOLDS_SECONDS = 300.0
_measured: dict[tuple[str, int], tuple[float, float | None]] = {}


def measure_io(job: Job, result_bytes: int) -> IoRates:
    """Measure reading, writing and syncing in a rank of a start.

    result_bytes  that the run will write: where they are few, writing is not measured
    Raises DataError where the dataset cannot be read.
    """
    reading = reading_speed(job.datasets, job.spec.dataset, job.limit)
    sync = _of_disk("sync", job.output.parent, sync_seconds)
    return replace(_of(reading), disk=_writing(job, result_bytes), sync_seconds=sync)


def inspect_io(job: Job, result_bytes: int) -> IoRates:
    """Measure reading and writing before a start; a process of its own reads, as what is read may crash it.

    result_bytes  as for `measure_io`
    Raises DataError where the dataset cannot be read.
    """
    reading = inspect_speed(job.datasets, job.spec.dataset, job.limit)
    return replace(_of(reading), disk=_writing(job, result_bytes))


def _of(reading: Reading) -> IoRates:
    return IoRates(reading=reading.rows_per_second, reading_threads=reading.threads)


def sample(job: Job, rows: int) -> Rows:
    """Read so many real rows of the job's dataset, for each input; they are what members are measured on."""
    return sample_rows(job.datasets, job.spec.dataset, job.limit, rows)


def spread(job: Job, rows: int) -> Rows:
    """Read so many real rows from all over the job's dataset, for each input; on them runtimes are held to agree."""
    return spread_rows(job.datasets, job.spec.dataset, job.limit, rows)


def _writing(job: Job, result_bytes: int) -> float | None:
    """Measure the bytes/s at which one rank writes beside the result; None where that is not worth it."""

    def measure(folder: Path) -> float | None:
        speed = writing_speed(folder, result_bytes)
        return None if speed == inf else speed

    # of few bytes it is not measured, and nothing to keep
    return _of_disk("write", job.output.parent, measure) if result_bytes >= SPEED_BYTES else None


def _of_disk(what: str, folder: Path, measure: Callable[[Path], float | None]) -> float | None:
    """Return what was measured of the disk of a folder not long ago, else measure it."""
    try:
        disk = what, folder.stat().st_dev
    except OSError:
        return measure(folder)
    now = time.monotonic()
    if disk not in _measured or now - _measured[disk][0] > _HOLDS_SECONDS:
        _measured[disk] = now, measure(folder)
    return _measured[disk][1]
