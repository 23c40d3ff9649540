"""World: `hpcens run` under somebody else's launcher, where every process is a rank from the start."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from hpcens.errors import COMPLETE, HpcensError, UsageError, as_verdict
from hpcens.launch.witness import Tell, witnessed
from hpcens.runs import RunDirectory, SlurmJob, Verdict
from hpcens.specs import Job
from hpcens.transports import remove_leftovers

# variables by which launchers tell a process how many it is one of
_SIZES = {"PMI_SIZE": "mpiexec", "OMPI_COMM_WORLD_SIZE": "mpiexec", "SLURM_STEP_NUM_TASKS": "srun"}


def inside_world() -> bool:
    """Whether a launcher started more than one of this process, or one and says so."""
    return any(variable in os.environ for variable in _SIZES)


def be_a_rank(read_job: Callable[[], Job], submission: str = "") -> int:
    """Be a rank with its witness. Rank 0 prepares the run, then all live it; only rank 0 speaks of the outcome.

    submission  id of the one that made this job, if one did
    """
    remove_leftovers(os.environ, os.getppid())
    return witnessed(lambda tell: _live(read_job, tell, SlurmJob.here(submission)))


def _alone(read_job: Callable[[], Job], size: int, launcher: str, slurm: SlurmJob | None) -> int:
    """Launcher and MPI do not speak to each other: one of the many worlds of 1 says so, to the verdict too."""
    from hpcens.checks.preflight import check
    from hpcens.launch.local import order, prepare
    from hpcens.roles.rank_roles import check_world

    try:
        check_world(1, size, launcher)
    except UsageError as error:
        if os.environ.get("SLURM_PROCID", "0") != "0":
            return error.exit_code
        job = read_job()
        epoch = prepare(RunDirectory.of(job.output), order(job, check(job)), slurm)
        epoch.judge(Verdict(error.exit_code, error.what, error.remedy))
        print(f"hpcens: {error}", file=sys.stderr)
        return error.exit_code
    return COMPLETE


def _live(read_job: Callable[[], Job], tell: Tell, slurm: SlurmJob | None) -> int:
    from mpi4py import MPI

    tell("")  # there is a world
    from hpcens.checks.members import ContractBook, hold
    from hpcens.checks.preflight import check, same_as_before
    from hpcens.launch.local import order, prepare
    from hpcens.scoring.rank import main

    size, launcher = next((int(os.environ[name]), by) for name, by in _SIZES.items() if name in os.environ)
    if os.environ.get("SLURM_STEP_NUM_TASKS") == str(size):
        launcher = "srun"
    world = MPI.COMM_WORLD
    if world.Get_size() == 1 and size > 1:
        return _alone(read_job, size, launcher, slurm)
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
                run = RunDirectory.of(job.output)
                epoch = prepare(run, order(job, preflight), slurm)
                told = str(run.path), epoch.number
        except Exception as error:  # whatever it is: the others wait to hear of it
            if not isinstance(error, HpcensError):
                traceback.print_exc()
            told = as_verdict(error)
    told = world.bcast(told)
    if told is None:
        return 0
    if isinstance(told, HpcensError):
        if world.Get_rank() == 0:
            print(f"hpcens: {told}", file=sys.stderr)
        return told.exit_code
    code = main(Path(told[0]), told[1], size, launcher, tell, slurm=slurm)
    if world.Get_rank() == 0:
        print(f"verdict {code}; next: hpcens status {told[0]}")
    return code
