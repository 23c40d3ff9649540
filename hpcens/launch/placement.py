"""Where and for how long jobs are to run, whoever hands them to Slurm."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any

from hpcens.specs import Job, SlurmSpec


def placement(settings: SlurmSpec) -> dict[str, str | None]:
    """Return where and for how long a job is to run, as sbatch and submitit both name it; None: the site's default."""
    return {
        "mem": f"{-(-settings.memory >> 20)}M" if settings.memory else None,
        "time": settings.time,
        "partition": settings.partition,
        "account": settings.account,
        "qos": settings.qos,
        "constraint": settings.constraint,
    }


def gpus_per_node(job: Job, settings: SlurmSpec) -> int | None:
    """Return how many GPUs of a node are asked for; None: none, or as many as it has."""
    cuda = job.spec.devices.cuda
    return settings.gpus_per_node or (cuda.count if cuda else None)


def leaving_out(settings: SlurmSpec, failing: Callable[[], Mapping[str, int]]) -> dict[str, Any]:
    """Return the arguments of sbatch, with the nodes on which starts failed too often left out, and say which.

    With `exclude: none` none is.

    failing  looks for them, and how many starts failed on each
    """
    arguments = dict(settings.arguments)
    if str(excluded := arguments.get("exclude", "")) == "none":
        del arguments["exclude"]
    elif nodes := failing():
        arguments["exclude"] = ",".join(filter(None, (str(excluded), *sorted(nodes))))
        for node, count in sorted(nodes.items()):
            said = f"hpcens: note: {node} is left out: {count} starts failed there; to take it: --slurm exclude=none"
            print(said, file=sys.stderr)
    return arguments
