"""List the nodes that Slurm has to offer, as sinfo does."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from hpcens.scheduler.commands import output

# States of nodes, as sinfo shortens them, of which a job can wait to get some.
_USABLE = ("idle", "mix", "alloc", "comp", "plnd", "resv")


@dataclass(frozen=True, slots=True)
class NodeGroup:
    """Nodes of one partition that nothing tells apart.

    gpus    (type as gres.conf names it, maybe empty; how many a node has)
    memory  bytes of a node
    """

    partition: str
    nodes: int
    cpus: int
    memory: int
    gpus: tuple[tuple[str, int], ...] = ()


def node_groups() -> tuple[NodeGroup, ...]:
    """Return the nodes of the cluster that can be used; () where no Slurm answers."""
    return parse_nodes(output(["sinfo", "-h", "-o", "%R|%D|%t|%c|%m|%G"]) or "")


def hostnames(nodes: str) -> list[str]:
    """Return the names in a list of nodes as Slurm writes it, n[1-3]; none where Slurm does not answer."""
    return (output(["scontrol", "show", "hostnames", nodes]) or "").split() if nodes else []


def parse_nodes(text: str) -> tuple[NodeGroup, ...]:
    """Return lines of sinfo, partition|nodes|state|CPUs|MiB|gres each, as groups; nodes that are down are left out."""
    counts: dict[NodeGroup, int] = {}
    for line in text.splitlines():
        partition, nodes, state, cpus, memory, gres = (part.strip() for part in line.split("|", 5))
        if re.sub(r"[^a-z]", "", state) not in _USABLE:
            continue
        gpus = tuple((kind or "", int(count)) for kind, count in re.findall(r"\bgpu:(?:([^:,(]+):)?(\d+)", gres))
        group = NodeGroup(partition, 0, int(cpus.rstrip("+")), int(memory.rstrip("+")) << 20, gpus)
        counts[group] = counts.get(group, 0) + int(nodes)
    return tuple(replace(group, nodes=nodes) for group, nodes in counts.items())
