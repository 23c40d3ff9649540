"""Cores of nodes whose GPUs compute: a device's rank computes on one, the reader decompresses by several threads."""

from __future__ import annotations

import sys

from hpcens.launch.placement import gpus_per_node
from hpcens.scheduler.nodes import NodeGroup, node_groups
from hpcens.specs import Job, SlurmSpec


def cores_per_rank(job: Job, settings: SlurmSpec, ranks: int) -> int | None:
    """Return how many cores a rank is to have on a node of GPUs alone, so that a reader has a core for each thread.

    None where that is told, where one will do, or where Slurm does not say what its nodes have. No more than the GPUs'
    share of a node's: other jobs have the rest, and Slurm would refuse more than there are.

    ranks  of a node
    """
    gpus = gpus_per_node(job, settings)
    if not gpus or settings.cpus_per_task or job.spec.devices.cpu:
        return None
    groups = [group for group in node_groups() if settings.partition in (None, group.partition)]
    shares = [group.cpus * gpus // have for group in groups if (have := _gpus(group)) >= gpus]
    if not shares:
        return None
    from hpcens.dataset.threads import MOST_THREADS  # h5py

    each = min(-(-(ranks + MOST_THREADS) // ranks), min(shares) // ranks)
    return each if each > 1 else None


def say_cores(each: int, ranks: int) -> None:
    """Say what is asked for, and how to have something else."""
    print(
        f"hpcens: note: {each * ranks} cores of a node are asked for, which its {ranks} ranks share: a reader"
        " decompresses by several threads; for others: --slurm cpus_per_task=N",
        file=sys.stderr,
    )


def _gpus(group: NodeGroup) -> int:
    return sum(count for _, count in group.gpus)
