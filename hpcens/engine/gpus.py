"""What the driver says of this host's GPUs: through NVML where nvidia-ml-py is installed, else through nvidia-smi.

A process that asks here imports no torch, starts no CUDA, and takes no memory of a GPU.
"""

from __future__ import annotations

import csv
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from hpcens.errors import UsageError

QUERY = [
    "nvidia-smi",
    "--query-gpu=index,uuid,name,memory.total,memory.free,pci.bus_id",
    "--format=csv,noheader,nounits",
]
LIST = ["nvidia-smi", "-L"]
_SECONDS = 30
_KERNEL_MODULES = Path("/proc/driver/nvidia/version"), Path("/sys/module/amdgpu/version")
# A slice has this part of the memory in its name, in GB of 10^9 bytes: 1g.5gb has 4.75 GiB, 3g.20gb 19.6.
_SLICE_PART = 0.95


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU, or a MIG slice of one.

    place  index of the GPU, as text; of a slice, that of its GPU, a colon and its own
    uuid   what names it whatever else is visible
    total, free  bytes, those that nobody uses now; free is None where the driver does not say
    bus    where it is on the PCI bus; empty where the driver does not say
    """

    place: str
    uuid: str
    name: str
    total: int
    free: int | None = None
    bus: str = ""


def gpus() -> tuple[Gpu, ...]:
    """Return all GPUs of this host, by index, each that is cut into MIG slices as these.

    Raises UsageError where the driver gives no answer.
    """
    found = _by_nvml()
    return found if found is not None else _by_nvidia_smi()


def gpu_of(uuid: str) -> Gpu | None:
    """Return the GPU of that name; None where the driver does not say."""
    try:
        return next((gpu for gpu in gpus() if gpu.uuid == uuid), None)
    except UsageError:
        return None


@lru_cache(maxsize=1)
def driver() -> str:
    """Return the version of the driver of this host's GPUs; empty where there is none, or it does not say."""
    try:
        import pynvml

        pynvml.nvmlInit()
        try:
            return _text(pynvml.nvmlSystemGetDriverVersion())
        finally:
            pynvml.nvmlShutdown()
    except Exception:  # no package, no driver, or one that it cannot speak to: the kernel may know
        return _driver_of_kernel()


def _driver_of_kernel() -> str:
    for path in _KERNEL_MODULES:
        try:
            found = re.search(r"\b\d+(\.\d+)+\b", path.read_text())
        except OSError:
            continue
        if found:
            return found[0]
    return ""


def _by_nvml() -> tuple[Gpu, ...] | None:
    """Ask NVML; None where it cannot be asked."""
    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    try:
        return tuple(gpu for i in range(pynvml.nvmlDeviceGetCount()) for gpu in _of_nvml(pynvml, i))
    except pynvml.NVMLError:
        return None
    finally:
        pynvml.nvmlShutdown()


def _of_nvml(nvml: Any, index: int) -> Iterator[Gpu]:
    try:
        handle = nvml.nvmlDeviceGetHandleByIndex(index)
    except nvml.NVMLError:  # another job's
        return
    name, bus = _text(nvml.nvmlDeviceGetName(handle)), _bus(nvml, handle)
    try:
        cut = nvml.nvmlDeviceGetMigMode(handle)[0] == 1
    except nvml.NVMLError:  # this kind of GPU cannot be cut
        cut = False
    if not cut:
        memory = nvml.nvmlDeviceGetMemoryInfo(handle)
        yield Gpu(str(index), _text(nvml.nvmlDeviceGetUUID(handle)), name, int(memory.total), int(memory.free), bus)
        return
    for place in range(nvml.nvmlDeviceGetMaxMigDeviceCount(handle)):
        try:
            part = nvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, place)
        except nvml.NVMLError:  # places may be empty
            continue
        memory = nvml.nvmlDeviceGetMemoryInfo(part)
        # NVML calls a slice by its GPU and its profile: NVIDIA A100-SXM4-40GB MIG 1g.5gb
        yield Gpu(
            f"{index}:{place}",
            _text(nvml.nvmlDeviceGetUUID(part)),
            _text(nvml.nvmlDeviceGetName(part)),
            int(memory.total),
            int(memory.free),
            bus,
        )


def _bus(nvml: Any, handle: Any) -> str:
    try:
        return _text(nvml.nvmlDeviceGetPciInfo(handle).busId)
    except (AttributeError, nvml.NVMLError):
        return ""


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _by_nvidia_smi() -> tuple[Gpu, ...]:
    slices = parse_slices(ask(LIST))
    cut = {gpu.place.partition(":")[0] for gpu in slices}
    every = {gpu.place: gpu for gpu in parse_table(ask(QUERY))}
    whole = (gpu for gpu in every.values() if gpu.place not in cut)
    parts = (replace(gpu, bus=every[of].bus) if (of := gpu.place.partition(":")[0]) in every else gpu for gpu in slices)
    return tuple(sorted((*whole, *parts), key=lambda gpu: tuple(map(int, gpu.place.split(":")))))


def ask(query: list[str]) -> str:
    """Return what nvidia-smi prints. Raises UsageError, saying what it said, where it fails or takes too long."""
    try:
        return subprocess.run(query, capture_output=True, text=True, timeout=_SECONDS, check=True).stdout
    except (OSError, subprocess.SubprocessError) as error:
        said = str(getattr(error, "stdout", None) or "") + str(getattr(error, "stderr", None) or "")
        raise UsageError(
            f"this host has GPUs, and nvidia-smi gives no answer: {' '.join(said.split())[:200] or error}",
            "see that nvidia-smi works here, or install nvidia-ml-py; to score on CPU cores all the same, write"
            " devices: {cpu: N} in the YAML",
        ) from error


def parse_table(table: str) -> Iterator[Gpu]:
    """Read nvidia-smi's table: index, UUID, name, MiB and, where it says so, MiB that are free, and the PCI bus."""
    for fields in csv.reader(table.splitlines()):
        place, uuid, name, total, free, bus = ([field.strip() for field in fields] + [""] * 6)[:6]
        if len(fields) in (4, 5, 6) and place.isdigit() and total.isdigit():
            yield Gpu(place, uuid, name, int(total) << 20, int(free) << 20 if free.isdigit() else None, bus)


def parse_slices(listing: str) -> tuple[Gpu, ...]:
    """Read the MIG slices of what nvidia-smi -L prints: GPUs, and below each its slices."""
    found: list[Gpu] = []
    index = gpu = ""
    for line in listing.splitlines():
        if match := re.match(r"GPU (\d+): (.+) \(UUID: ", line):
            index, gpu = match[1], match[2]
        elif match := re.match(r"\s+MIG (\S+)\s+Device\s+(\d+): \(UUID: (\S+)\)", line):
            size = re.search(r"(\d+)gb", match[1])
            if size:
                memory = int(int(size[1]) * 1e9 * _SLICE_PART)
                found.append(Gpu(f"{index}:{match[2]}", match[3], f"{gpu} MIG {match[1]}", memory))
    return tuple(found)


def visible(found: tuple[Gpu, ...], names: str | None) -> tuple[Gpu, ...]:
    """Return those that CUDA_VISIBLE_DEVICES names, in its order; all where it is not set.

    A name is an index or the start of a UUID. As with CUDA, the first that fits none or several ends the list. An
    index of a GPU that is cut names its first slice, and CUDA shows a process no more than one slice: each of those
    named is another rank's.
    """
    if names is None:
        return found
    chosen: list[Gpu] = []
    for name in filter(None, (name.strip() for name in names.split(","))):
        matching = [gpu for gpu in found if gpu.place == name or gpu.uuid.startswith(name)]
        matching = matching or [gpu for gpu in found if gpu.place.startswith(f"{name}:")][:1]
        if len(matching) != 1:
            break
        chosen += matching
    return tuple(chosen)
