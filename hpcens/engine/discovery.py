"""Discovery: the devices of this host, found without importing torch."""

from __future__ import annotations

import contextlib
import csv
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from hpcens.errors import UsageError
from hpcens.processes import node
from hpcens.processes.memory import host_memory
from hpcens.specs import DevicesSpec
from hpcens.vocabulary import Device, cpu_devices

_QUERY = ["nvidia-smi", "--query-gpu=index,uuid,name,memory.total", "--format=csv,noheader,nounits"]
_LIST = ["nvidia-smi", "-L"]
# A slice has this part of the memory in its name, in GB of 10^9 bytes: 1g.5gb has 4.75 GiB, 3g.20gb 19.6.
_SLICE_PART = 0.95


def discover(spec: DevicesSpec) -> tuple[Device, ...]:
    """Find the devices of this host that the spec asks for, GPUs first.

    Where it asks for none, all GPUs are taken; where there is none, a CPU device for each core.
    Raises UsageError where more GPUs are asked for than are visible.
    """
    found = present(spec)
    gpus = sum(device.family == "cuda" for device in found)
    if spec.cuda and gpus < (spec.cuda.count or 1):
        raise UsageError(
            f"{node()}: {spec.cuda.count or 'some'} GPUs are asked for, {gpus} are visible",
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


def _gpus(host: str) -> tuple[Device, ...]:
    if not list(Path("/dev").glob("nvidia[0-9]*")):
        return ()
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    query, parse = (_LIST, parse_slices) if _names_slice(visible) else (_QUERY, parse_gpus)
    try:
        output = subprocess.run(query, capture_output=True, text=True, timeout=30, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return ()
    return parse(output, visible, host)


def _names_slice(visible: str | None) -> bool:
    return visible is not None and visible.startswith("MIG-")


def parse_slices(listing: str, visible: str | None, host: str) -> tuple[Device, ...]:
    """Read the MIG slice that CUDA_VISIBLE_DEVICES names, as a device of a kind of its own.

    CUDA shows a process the first slice of several alone.

    listing  what nvidia-smi -L prints: GPUs and their slices
    visible  CUDA_VISIBLE_DEVICES
    """
    wanted = (visible or "").split(",")[0].strip()
    gpu = ""
    for line in listing.splitlines():
        if match := re.match(r"GPU \d+: (.+) \(UUID: ", line):
            gpu = match[1]
        elif match := re.match(r"\s+MIG (\S+)\s+Device\s+\d+: \(UUID: (\S+)\)", line):
            profile, uuid = match[1], match[2]
            size = re.search(r"(\d+)gb", profile)
            if uuid == wanted and size:
                memory = int(int(size[1]) * 1e9 * _SLICE_PART)
                return (Device(f"{host}/cuda0", "cuda", f"cuda {gpu} MIG {profile}", memory, 1, 0, host),)
    return ()


def identities(devices: Sequence[Device]) -> tuple[str, ...]:
    """Return of each device what tells it from all others of its node: a GPU's UUID, a CPU device's name."""
    uuids: list[str] = []
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if _names_slice(visible):
        uuids = (visible or "").split(",")
    elif any(device.family == "cuda" for device in devices):
        table = subprocess.run(_QUERY, capture_output=True, text=True, timeout=30, check=True).stdout
        uuids = visible_uuids(table, visible)
    return tuple(uuids[device.index] if device.family == "cuda" else device.name for device in devices)


def visible_uuids(table: str, visible: str | None) -> list[str]:
    """Return the UUIDs of nvidia-smi's table in the order in which CUDA numbers the GPUs for this process."""
    return [uuid for _, uuid, _, _ in _rows(table, visible)]


def parse_gpus(table: str, visible: str | None, host: str) -> tuple[Device, ...]:
    """Read nvidia-smi's table (index, UUID, name, MiB) as devices, in the order of CUDA_VISIBLE_DEVICES."""
    return tuple(
        Device(f"{host}/cuda{i}", "cuda", f"cuda {name}", int(mib) << 20, 1, i, host)
        for i, (_, _, name, mib) in enumerate(_rows(table, visible))
    )


def _rows(table: str, visible: str | None) -> list[list[str]]:
    rows = [[field.strip() for field in row] for row in csv.reader(table.splitlines()) if len(row) == 4]
    names = None if visible is None else [name.strip() for name in visible.split(",") if name.strip()]
    return rows if names is None else list(_visible(rows, names))


def _visible(rows: list[list[str]], names: list[str]) -> Iterator[list[str]]:
    """Yield the GPUs named by index or start of UUID.

    As with CUDA, the first name that fits none or several ends the list.
    """
    for name in names:
        matching = [row for row in rows if row[0] == name or row[1].startswith(name)]
        if len(matching) != 1:
            return
        yield matching[0]


def cpu_model() -> str:
    """Return the processor's name as the kernel gives it."""
    try:
        line = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        line = None
    return re.sub(r"\s+", " ", line[1]).strip() if line else os.uname().machine
