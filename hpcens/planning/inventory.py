"""Take the inventory of a cluster: the kinds of node to plan for, as the YAML or Slurm describes them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from hpcens.errors import UsageError
from hpcens.planning.nodes import Nodes
from hpcens.scheduler.nodes import NodeGroup, node_groups
from hpcens.specs import DevicesSpec, NodesSpec, RunSpec
from hpcens.vocabulary import Device, Family

# Of the memory in a GPU's name, in GB of 10^9 bytes, what a process may have.
_NAMED_PART = 0.95
# Of a node's memory, what its CPU devices may have.
_NODE_PART = 0.9


def described_nodes(spec: RunSpec) -> list[Nodes]:
    """Return the nodes under cluster: in the YAML."""
    return [Nodes(name, nodes.nodes, _devices(nodes)) for name, nodes in spec.cluster.items()]


def slurm_nodes(
    partition: str | None,
    wanted: DevicesSpec,
    local: Sequence[Device],
    profiled: Iterable[str],
    memories: Mapping[str, int],
) -> list[Nodes]:
    """Return Slurm's nodes, of a partition where one is given; none where there is no Slurm. See `inventory`."""
    groups = [group for group in node_groups() if partition in (None, group.partition)]
    return inventory(groups, wanted, local, profiled, memories)


def _devices(nodes: NodesSpec) -> tuple[Device, ...]:
    """Return the devices of one node of the kind."""
    family: Family = "cpu" if nodes.kind.startswith("cpu") else "cuda"
    return tuple(Device(f"{family}{i}", family, nodes.kind, nodes.memory, index=i) for i in range(nodes.devices))


def inventory(
    groups: Sequence[NodeGroup],
    wanted: DevicesSpec,
    local: Sequence[Device],
    profiled: Iterable[str],
    memories: Mapping[str, int] | None = None,
) -> list[Nodes]:
    """Return nodes that have devices as they are wanted: where nothing is said GPUs, else one CPU device a core.

    local     this host's devices. Slurm names no processors, so CPU devices are taken to be like these
    profiled  kinds of device of which there are profiles: a GPU is one of them if that has Slurm's name for it in it
    memories  kind of GPU → bytes of its memory, as far as runs have seen it

    Raises UsageError where the memory of a GPU is not known.
    """
    kinds = tuple(dict.fromkeys([*(device.kind for device in local), *profiled]))
    known = {**(memories or {}), **{device.kind: device.memory for device in local}}
    like = next((device for device in local if device.family == "cpu"), None)
    nodes: list[Nodes] = []
    for group in groups:
        devices = () if wanted.cpu and not wanted.cuda else _wanted(tuple(_gpus(group, known, kinds)), wanted)
        if not devices and not wanted.cuda and like is not None:
            count = wanted.cpu.count if wanted.cpu else group.cpus
            memory = min(like.memory, int(_NODE_PART * group.memory) // count)
            devices = tuple(replace(like, name=f"cpu{i}", memory=memory, index=i, host="") for i in range(count))
        if devices:
            nodes.append(Nodes(_name(group, nodes), group.nodes, devices, group.partition))
    return nodes


def _wanted(gpus: tuple[Device, ...], wanted: DevicesSpec) -> tuple[Device, ...]:
    """Return as many of a node's GPUs, and as much of their memory, as the job will use; none of too few."""
    if wanted.cuda is None:
        return gpus
    if len(gpus) < (wanted.cuda.count or 1):
        return ()
    most = wanted.cuda.memory
    return tuple(replace(gpu, memory=min(gpu.memory, most or gpu.memory)) for gpu in gpus[: wanted.cuda.count])


def _gpus(group: NodeGroup, known: Mapping[str, int], kinds: Sequence[str]) -> Iterable[Device]:
    index = 0
    for name, count in group.gpus:
        same = (kind for kind in kinds if kind.startswith("cuda") and _plain(name) in _plain(kind))
        kind = next(same, f"cuda {name}".strip())
        for _ in range(count):
            yield Device(f"cuda{index}", "cuda", kind, _memory(name, kind, known), 1, index)
            index += 1


def _memory(name: str, kind: str, known: Mapping[str, int]) -> int:
    in_name = re.search(r"(\d+)\s*gb", f"{name} {kind}", re.IGNORECASE)
    if kind not in known and not in_name:
        raise UsageError(
            f"Slurm has GPUs {name or 'without a type'}, and nothing says how much memory they have",
            "describe the nodes under cluster: in the YAML, or run once on such a node, which keeps it",
        )
    return known[kind] if kind in known else int(int(in_name[1]) * 1e9 * _NAMED_PART) if in_name else 0


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9.]", "", name.lower())


def _name(group: NodeGroup, others: Sequence[Nodes]) -> str:
    """Return the name of the partition, or with a number where another group of it is there already."""
    same = sum(nodes.partition == group.partition for nodes in others)
    return f"{group.partition}-{same + 1}" if same else group.partition
