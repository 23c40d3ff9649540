"""Take the inventory of a cluster: the kinds of node to plan for, as the YAML or Slurm describes them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
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
    partition: str | None, wanted: DevicesSpec, local: Sequence[Device], profiled: Iterable[str]
) -> list[Nodes]:
    """Return Slurm's nodes, of a partition where one is given; none where there is no Slurm. See `inventory`."""
    groups = [group for group in node_groups() if partition in (None, group.partition)]
    return inventory(groups, wanted, local, profiled)


def _devices(nodes: NodesSpec) -> tuple[Device, ...]:
    """Return the devices of one node of the kind."""
    family: Family = "cpu" if nodes.kind.startswith("cpu") else "cuda"
    return tuple(Device(f"{family}{i}", family, nodes.kind, nodes.memory, index=i) for i in range(nodes.devices))


def inventory(
    groups: Sequence[NodeGroup], wanted: DevicesSpec, local: Sequence[Device], profiled: Iterable[str]
) -> list[Nodes]:
    """Return nodes that have devices as they are wanted: where nothing is said GPUs, else one CPU device a core.

    local     this host's devices. Slurm names no processors, so CPU devices are taken to be like these
    profiled  kinds of device of which there are profiles: a GPU is one of them if that has Slurm's name for it in it

    Raises UsageError where the memory of a GPU is not known.
    """
    kinds = tuple(dict.fromkeys([*(device.kind for device in local), *profiled]))
    like = next((device for device in local if device.family == "cpu"), None)
    nodes: list[Nodes] = []
    for group in groups:
        devices = () if wanted.cpu and not wanted.cuda else tuple(_gpus(group, local, kinds))
        if not devices and not wanted.cuda and like is not None:
            count = wanted.cpu.count if wanted.cpu else group.cpus
            memory = min(like.memory, int(_NODE_PART * group.memory) // count)
            devices = tuple(replace(like, name=f"cpu{i}", memory=memory, index=i, host="") for i in range(count))
        if devices:
            nodes.append(Nodes(_name(group, nodes), group.nodes, devices, group.partition))
    return nodes


def _gpus(group: NodeGroup, local: Sequence[Device], kinds: Sequence[str]) -> Iterable[Device]:
    index = 0
    for name, count in group.gpus:
        same = (kind for kind in kinds if kind.startswith("cuda") and _plain(name) in _plain(kind))
        kind = next(same, f"cuda {name}".strip())
        for _ in range(count):
            yield Device(f"cuda{index}", "cuda", kind, _memory(name, kind, local), 1, index)
            index += 1


def _memory(name: str, kind: str, local: Sequence[Device]) -> int:
    measured = [device.memory for device in local if device.kind == kind]
    in_name = re.search(r"(\d+)\s*gb", f"{name} {kind}", re.IGNORECASE)
    if not measured and not in_name:
        raise UsageError(
            f"Slurm has GPUs {name or 'without a type'}, and nothing says how much memory they have",
            "describe the nodes under cluster: in the YAML",
        )
    return measured[0] if measured else int(int(in_name[1]) * 1e9 * _NAMED_PART) if in_name else 0


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9.]", "", name.lower())


def _name(group: NodeGroup, others: Sequence[Nodes]) -> str:
    """Return the name of the partition, or with a number where another group of it is there already."""
    same = sum(nodes.partition == group.partition for nodes in others)
    return f"{group.partition}-{same + 1}" if same else group.partition
