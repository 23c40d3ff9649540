"""Where and for how long jobs are to run, whoever hands them to Slurm."""

from __future__ import annotations

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
