"""The Slurm part of what a user asks for."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from hpcens.specs.member import STRICT

CheckMembers = Literal["submit", "job"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SlurmSpec:
    """What to ask Slurm for; None: the site profile's value, else Slurm's own default or the one named here.

    nodes           default 1
    tasks_per_node  ranks of each node; default: one a device, and two for a reader and a reducer
    gpus_per_node   default: devices.cuda.count
    cpus_per_task   default: the cores of a CPU device, which reader and reducer then share with the devices; on
                    nodes of GPUs alone, where Slurm says what they have, enough for a reader's threads, which all share
    memory          bytes of each node
    time            limit of one job, as sbatch takes it: minutes, or [days-]hours:minutes:seconds
    setup           shell lines run before the ranks start: module load …
    mpi             how srun and MPI find each other (srun --mpi=list); default pmi2
    python          command that runs the Python of jobs and ranks, which has hpcens: an interpreter, or a container's;
                    default: the one that submits
    srun            options of srun for the ranks, by their long names without the dashes: a value, true where it takes
                    none, false where one is not meant
    drain_seconds   warning before the time limit, in which what is under way is finished; default 90
    start_seconds   within which all ranks of a start are to come; default 900
    requeues        how often a job may put itself back into the queue; default 10
    check_members   where members that were never tried are: where `submit` runs, the default, or when the job starts
    arguments       any other argument of sbatch, without the dashes
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = STRICT
    nodes: int | None = None
    tasks_per_node: int | None = None
    gpus_per_node: int | None = None
    cpus_per_task: int | None = None
    memory: int | None = None
    time: str | None = None
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    setup: tuple[str, ...] | None = None
    mpi: str | None = None
    python: str | None = None
    srun: dict[str, Any] = field(default_factory=dict)
    drain_seconds: int | None = None
    start_seconds: int | None = None
    requeues: int | None = None
    check_members: CheckMembers | None = None
    arguments: dict[str, Any] = field(default_factory=dict)
