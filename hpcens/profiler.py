"""The profiler: measures members on a device, in short and bounded time. See `profiles` for what is kept."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Sequence
from typing import Any

from hpcens.devices import Device
from hpcens.errors import DeviceOutOfMemory
from hpcens.messages import Rows
from hpcens.profiles import BatchProfile, Profile
from hpcens.runtimes.engine import Engine
from hpcens.runtimes.hardware import open_hardware
from hpcens.runtimes.members import load
from hpcens.specs import MemberSpec, RunSpec, Space

# Passes at least; no more once their median is known to a part in a hundred.
_REPETITIONS = 3
_PRECISION = 0.01
_WORTH_GOING_ON = 0.85


def measure(
    member: MemberSpec,
    *,
    spec: RunSpec,
    inputs: Sequence[str],
    device: Device,
    space: Space,
    batch_sizes: Sequence[int],
    rows: Rows,
    seconds: float,
) -> Profile:
    """Load the member and time it at each batch size, smallest first.

    inputs   names of the dataset's inputs, in their order
    rows     real rows of the dataset, for each input; repeated where a batch needs more
    seconds  time for all batch sizes together. A size is left out when it does not fit, and larger
             ones are when the speed has fallen off or the time is used up; one is always measured.
    Raises DeviceOutOfMemory where not even the smallest fits.
    """
    hardware = open_hardware(device)
    hardware.release()
    context = hardware.resident()
    began = time.perf_counter()
    module = load(member, spec, inputs=inputs, space=space, cores=device.cores)
    engine = Engine(hardware)
    engine.host(member.name, module, batch=min(batch_sizes))
    load_seconds = time.perf_counter() - began
    hardware.release()
    weights = max(hardware.resident() - context, sum(p.nbytes for p in module.state_dict().values()))
    sample = tuple(array[[i % len(array) for i in range(max(batch_sizes))]] for array in rows)
    batches: dict[int, BatchProfile] = {}
    best = 0.0
    shape: tuple[int, ...] = ()
    deadline = time.perf_counter() + seconds
    for batch in sorted(batch_sizes):
        engine.host(member.name, module, batch=batch)
        staged = None  # two at once are not what a run holds
        try:
            staged = tuple(hardware.receive(hardware.stage(array[:batch])) for array in sample)
            hardware.release()
            resting = hardware.resident()
            hardware.start_peak()
            values, used = engine.run(member.name, staged)
        except Exception as error:
            if not isinstance(error, DeviceOutOfMemory) and not hardware.out_of_memory(error):
                raise
            used = 0
        if staged is None or used < batch:
            break
        shape = values.shape[1:]
        workspace = max(0, hardware.peak() - resting)
        speeds = _time(engine, member.name, staged, batch, deadline, len(batch_sizes))
        middle = statistics.median(speeds)
        batches[batch] = BatchProfile(batch, middle, workspace, (max(speeds) - min(speeds)) / middle)
        if middle < _WORTH_GOING_ON * best or time.perf_counter() > deadline:
            break
        best = max(best, middle)
    if not batches:
        raise DeviceOutOfMemory(
            f"member {member.name}: a batch of {min(batch_sizes)} rows does not fit the memory of {device.name}",
            "add smaller sizes to plan.batch_sizes in the YAML, or use a device with more memory",
        )
    return Profile(weights, context, load_seconds, shape, batches, tuple(sorted(batch_sizes)))


def _time(engine: Engine, name: str, staged: Any, batch: int, deadline: float, sizes: int) -> list[float]:
    """Rows/s of several passes, until the median is precise or this size's part of the time is used up."""
    share = max(0.02, (deadline - time.perf_counter()) / sizes)
    end = time.perf_counter() + share
    speeds: list[float] = []
    while len(speeds) < _REPETITIONS or (time.perf_counter() < end and not precise(speeds)):
        began = time.perf_counter()
        engine.run(name, staged)
        speeds.append(batch / (time.perf_counter() - began))
        if time.perf_counter() > deadline:
            break
    return speeds


def precise(speeds: Sequence[float]) -> bool:
    """Whether the median of five or more is known to 1 %, by its standard error (1.25 σ / √n of a normal law)."""
    if len(speeds) < 5:
        return False
    return 1.25 * statistics.stdev(speeds) <= _PRECISION * statistics.median(speeds) * math.sqrt(len(speeds))
