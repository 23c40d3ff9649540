"""Discovery: the devices of this host, found without importing torch."""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from hpcens.engine.gpus import Gpu, gpus, visible
from hpcens.engine.torch_build import torch_build
from hpcens.errors import UsageError
from hpcens.processes import node
from hpcens.processes.isolation import NoAnswer, isolated
from hpcens.processes.memory import host_memory
from hpcens.specs import DevicesSpec
from hpcens.vocabulary import Device, Family, cpu_devices

_DEV, _AMD = Path("/dev"), Path("/dev/kfd")
# Of what is free of a GPU, what a rank may have: allocators round up, and their pieces do not fit without gaps.
_PART = 0.95
_STEP = 64 << 20


def discover(spec: DevicesSpec) -> tuple[Device, ...]:
    """Find the devices of this host that the spec asks for, GPUs first.

    Where it asks for none, all GPUs are taken; where there is none, a CPU device for each core.
    Raises UsageError where more GPUs are asked for than are visible.
    """
    found = present(spec)
    gpus = tuple(device for device in found if device.family == "cuda")
    if spec.cuda and len(gpus) < (spec.cuda.count or 1):
        raise UsageError(
            f"{node()}: {spec.cuda.count or 'some'} GPUs are asked for, {len(gpus)} are visible"
            f"{_of_other_makers(gpus)}",
            "check devices.cuda in the YAML, CUDA_VISIBLE_DEVICES, and nvidia-smi",
        )
    return found


def present(spec: DevicesSpec) -> tuple[Device, ...]:
    """Find those of the devices that the spec asks for that this host has, as `discover` names them."""
    host = node()
    cores = sorted(os.sched_getaffinity(0))
    gpus = _gpus(host) if spec.cuda or not spec.cpu else ()
    if spec.cuda:
        most = spec.cuda.memory
        gpus = tuple(replace(gpu, memory=min(gpu.memory, most or gpu.memory)) for gpu in gpus[: spec.cuda.count])
    if spec.cpu:
        count, cores_each, memory = spec.cpu.count, spec.cpu.cores, spec.cpu.memory
    else:
        count, cores_each, memory = (0 if spec.cuda or gpus else len(cores)), 1, None
    share = host_memory() * 9 // 10 // max(1, count)
    return gpus + cpu_devices(host, cpu_model(), count=count, cores=cores_each, memory=memory or share)


def first_family(spec: DevicesSpec) -> Family:
    """Return the family of the first of the devices that the spec asks for, without asking the driver."""
    if spec.cuda is not None:
        return "cuda"
    amd = _AMD.exists() and "hip" in torch_build()
    return "cuda" if spec.cpu is None and (amd or list(_DEV.glob("nvidia[0-9]*"))) else "cpu"


def require_host_holds(spec: DevicesSpec) -> None:
    """Refuse CPU devices that this host has no cores or no memory for; each of them becomes a process.

    For starts on this host alone: elsewhere ranks may be bound to a part of their node.
    Raises UsageError saying what there is. Warns where this process may use fewer cores than the host has.
    """
    if spec.cpu is None:
        return
    wanted = spec.cpu.count * spec.cpu.cores
    asked = f"devices.cpu asks for {spec.cpu.count} × {spec.cpu.cores} cores"
    host = os.cpu_count() or 1
    if wanted > host:
        raise UsageError(f"{asked}, and there are {host} cores", _fewer(host, spec.cpu.cores))
    memory = host_memory()
    if spec.cpu.memory and spec.cpu.count * spec.cpu.memory > memory:
        raise UsageError(
            f"devices.cpu asks for {spec.cpu.count} × {spec.cpu.memory / 1e9:,.1f} GB of memory, and there are"
            f" {memory / 1e9:,.1f} GB",
            "give each device less, or ask for fewer: devices.cpu in the YAML",
        )
    usable = min(len(os.sched_getaffinity(0)), *(-(-quota // 1) for quota in _quotas()), host)
    if wanted > usable:
        print(
            f"hpcens: warning: {asked}, and this process may use {usable:.0f} of the {host} there are (affinity or"
            f" control group): devices will wait for each other; {_fewer(int(usable), spec.cpu.cores)}",
            file=sys.stderr,
        )


def _fewer(cores: int, each: int) -> str:
    return f"devices: {{cpu: {{count: {max(1, cores // each)}, cores: {min(each, cores)}}}}} in the YAML"


def _quotas() -> Iterator[float]:
    """Yield how many cores' time this process's control group allows, where it is limited."""
    with contextlib.suppress(OSError, ValueError):
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        yield int(quota) / int(period)


def _of_other_makers(gpus: tuple[Device, ...]) -> str:
    """Say what else there is that looks like a GPU, where none is visible."""
    if gpus:
        return ""
    if _AMD.exists() and "hip" not in torch_build():
        return "; there is one of AMD's, which needs torch's build for ROCm"
    if not list(_DEV.glob("nvidia[0-9]*")) and list(_DEV.glob("dri/renderD*")):
        return "; there is one of Intel's or another maker's: GPUs of NVIDIA and AMD are computed on, no others"
    return ""


def _gpus(host: str) -> tuple[Device, ...]:
    return as_devices(_visible(), host)


def _visible() -> tuple[Gpu, ...]:
    """Return the GPUs that this process may use, in the order in which CUDA numbers them for it.

    Raises UsageError where there are some and nobody says which, or this torch cannot compute on them.
    """
    if list(_DEV.glob("nvidia[0-9]*")):
        found = visible(gpus(), os.environ.get("CUDA_VISIBLE_DEVICES"))
        if found and torch_build() and "cuda" not in torch_build():
            raise UsageError(
                f"this host has GPUs ({found[0].name}), and its torch is built without CUDA",
                "install torch's build for CUDA, from https://pytorch.org; to score on CPU cores all the same, write"
                " devices: {cpu: N} in the YAML",
            )
        return found
    if _AMD.exists() and "hip" in torch_build():
        return _by_torch()
    return ()


def _by_torch() -> tuple[Gpu, ...]:
    """Ask torch in a process of its own: here, it is to start later and see less. It heeds HIP_VISIBLE_DEVICES."""
    with isolated(_told_by_torch) as child:
        try:
            return tuple(Gpu(*fields) for fields in child.answer(limit=120))
        except NoAnswer as failure:
            raise UsageError(
                f"this host has GPUs of AMD's, and torch gives no answer{failure.quotation}",
                "see that torch.cuda.device_count() works here; to score on CPU cores all the same, write"
                " devices: {cpu: N} in the YAML",
            ) from None


def _told_by_torch() -> Iterator[list[tuple[str, str, str, int, int]]]:
    from hpcens.engine.cuda import every_gpu

    yield every_gpu()


def as_devices(found: Sequence[Gpu], host: str) -> tuple[Device, ...]:
    """Return GPUs as devices: of what is free now, what a rank may have, see `_PART`."""
    return tuple(
        Device(f"{host}/cuda{i}", "cuda", f"cuda {gpu.name}", _usable(gpu), 1, i, host) for i, gpu in enumerate(found)
    )


def _usable(gpu: Gpu) -> int:
    """Return the bytes that a rank may have. In steps, so that GPUs alike stay alike."""
    if gpu.free is None:
        return gpu.total
    return int(_PART * min(gpu.free, gpu.total)) // _STEP * _STEP


def identities(devices: Sequence[Device]) -> tuple[str, ...]:
    """Return of each device what tells it from all others of its node: a GPU's UUID, a CPU device's name."""
    uuids = [gpu.uuid for gpu in _visible()] if any(device.family == "cuda" for device in devices) else []
    return tuple(uuids[device.index] if device.family == "cuda" else device.name for device in devices)


def cpu_model() -> str:
    """Return the processor's name as the kernel gives it."""
    try:
        line = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        line = None
    return re.sub(r"\s+", " ", line[1]).strip() if line else os.uname().machine
