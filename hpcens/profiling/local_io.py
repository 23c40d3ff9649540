"""Measure in one process what rows and outputs pass besides the devices: reading, writing and syncing."""

from __future__ import annotations

from math import inf

from hpcens.dataset import inspect_speed, reading_speed, sample_rows, spread_rows
from hpcens.result import sync_seconds, writing_speed
from hpcens.specs import Job
from hpcens.vocabulary import IoRates, Rows


def measure_io(job: Job, result_bytes: int) -> IoRates:
    """Measure reading, writing and syncing in a rank of a start.

    result_bytes  that the run will write: where they are few, writing is not measured
    Raises DataError where the dataset cannot be read.
    """
    reading = reading_speed(job.datasets, job.spec.dataset, job.limit)
    sync = sync_seconds(job.output.parent)
    return IoRates(reading=reading, disk=_writing(job, result_bytes), sync_seconds=sync)


def inspect_io(job: Job, result_bytes: int) -> IoRates:
    """Measure reading and writing before a start; a process of its own reads, as what is read may crash it.

    result_bytes  as for `measure_io`
    Raises DataError where the dataset cannot be read.
    """
    reading = inspect_speed(job.datasets, job.spec.dataset, job.limit)
    return IoRates(reading=reading, disk=_writing(job, result_bytes))


def sample(job: Job, rows: int) -> Rows:
    """Read so many real rows of the job's dataset, for each input; they are what members are measured on."""
    return sample_rows(job.datasets, job.spec.dataset, job.limit, rows)


def spread(job: Job, rows: int) -> Rows:
    """Read so many real rows from all over the job's dataset, for each input; on them runtimes are held to agree."""
    return spread_rows(job.datasets, job.spec.dataset, job.limit, rows)


def _writing(job: Job, result_bytes: int) -> float | None:
    """Measure the bytes/s at which one rank writes beside the result; None where that is not worth it."""
    speed = writing_speed(job.output.parent, result_bytes)
    return None if speed == inf else speed
