"""World: `hpcens run` under somebody else's launcher, where every process is a rank from the start."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from hpcens.errors import HpcensError
from hpcens.launch.witness import Tell, witnessed
from hpcens.specs import Job

# variables by which launchers tell a process how many it is one of
_SIZES = {"PMI_SIZE": "mpiexec", "OMPI_COMM_WORLD_SIZE": "mpiexec", "SLURM_STEP_NUM_TASKS": "srun"}


def inside_world() -> bool:
    """Whether a launcher started more than one of this process, or one and says so."""
    return any(variable in os.environ for variable in _SIZES)


def be_a_rank(read_job: Callable[[], Job]) -> int:
    """Be a rank with its witness. Rank 0 prepares the run, then all live it; only rank 0 speaks of the outcome."""
    return witnessed(lambda tell: _live(read_job, tell))


def _live(read_job: Callable[[], Job], tell: Tell) -> int:
    from mpi4py import MPI

    from hpcens.contract import ContractBook, hold
    from hpcens.launch.local import prepare
    from hpcens.preflight import check, same_as_before
    from hpcens.run import main

    size, launcher = next((int(os.environ[name]), by) for name, by in _SIZES.items() if name in os.environ)
    world = MPI.COMM_WORLD
    if world.Get_size() == 1 and size > 1:
        from hpcens.roles.casting import check_world

        check_world(1, size, launcher)
    told: tuple[str, int] | HpcensError | None = None
    if world.Get_rank() == 0:
        try:
            job = read_job()
            preflight = check(job)
            if same_as_before(job, preflight):
                print(f"{job.output} is complete already; next: hpcens verify {job.output}")
            else:
                for warning in hold(job, preflight, ContractBook.default()):
                    print(f"hpcens: warning: {warning}", file=sys.stderr)
                run, epoch = prepare(job, preflight)
                told = str(run.path), epoch.number
        except HpcensError as error:
            told = error
    told = world.bcast(told)
    if told is None:
        return 0
    if isinstance(told, HpcensError):
        if world.Get_rank() == 0:
            print(f"hpcens: {told}", file=sys.stderr)
        return told.exit_code
    from pathlib import Path

    code = main(Path(told[0]), told[1], size, launcher, tell)
    if world.Get_rank() == 0:
        print(f"verdict {code}; next: hpcens status {told[0]}")
    return code
