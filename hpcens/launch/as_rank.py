"""As a rank: `hpcens run` under somebody else's launcher, where every process is a rank from the start.

The process that the launcher started is the witness, which forks the rank. What imports h5py is imported in the
rank alone: a build of h5py for MPI begins MPI at its import, and MPI does not survive a fork.
"""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path

from hpcens.errors import COMPLETE, FingerprintMismatch, HpcensError, UsageError, as_verdict
from hpcens.launch.local import claim
from hpcens.launch.submitted import refuse_edited
from hpcens.launch.witness import Tell, witnessed
from hpcens.processes.leftovers import sweep
from hpcens.roles import check_world
from hpcens.runs import RunDirectory, SlurmJob, Verdict
from hpcens.runs.roll_call import AGAIN, LAST, START_SECONDS, RollCall
from hpcens.shell import printable, quoted
from hpcens.specs import Job
from hpcens.transports import remove_leftovers, take_short_addresses

# variables by which launchers tell a process how many it is one of
_SIZES = {"PMI_SIZE": "mpiexec", "OMPI_COMM_WORLD_SIZE": "mpiexec", "SLURM_STEP_NUM_TASKS": "srun"}
# variables by which they tell it its number on its node
_LOCAL_IDS = ("SLURM_LOCALID", "MPI_LOCALRANKID", "OMPI_COMM_WORLD_LOCAL_RANK")


def inside_world() -> bool:
    """Whether a launcher started more than one of this process, or one and says so."""
    return any(variable in os.environ for variable in _SIZES)


def be_a_rank(
    read_job: Callable[[], Job], submission: str = "", roll_call: RollCall | None = None, drain: int = 0
) -> int:
    """Be a rank with its witness. Rank 0 prepares the run, then all live it; only rank 0 speaks of the outcome.

    submission  id of the one that made this job, if one did
    roll_call   by which the job's tasks wait for each other, where they have a folder for it
    drain       seconds before the job's time limit at which Slurm warns it; 0: not known
    """
    remove_leftovers(os.environ, os.getppid())
    if next((os.environ[name] for name in _LOCAL_IDS if name in os.environ), "0") == "0":
        sweep()
    overdue = None if roll_call is None else roll_call.overdue

    def live(tell: Tell) -> int:
        _enter_world(roll_call)
        tell("")  # there is a world
        return _live(read_job, tell, SlurmJob.here(submission), drain)

    stillborn = None if roll_call is None else roll_call.note_death
    return witnessed(live, birth=START_SECONDS, overdue=overdue, stillborn=stillborn)


def _enter_world(roll_call: RollCall | None) -> None:
    """Begin MPI, which waits for all ranks: what may take long on one node alone, loading it, is done before."""
    import mpi4py

    mpi4py.rc.initialize, mpi4py.rc.finalize = False, True
    from mpi4py import MPI

    if roll_call is not None:
        roll_call.sign()
    if os.environ.get(AGAIN) == LAST:
        take_short_addresses(os.environ)
    if not MPI.Is_initialized():
        MPI.Init_thread()
    if roll_call is not None:
        roll_call.end()


def _live(read_job: Callable[[], Job], tell: Tell, slurm: SlurmJob | None, drain: int) -> int:
    from mpi4py import MPI

    from hpcens.scoring.rank import main

    size, launcher = _launched()
    world = MPI.COMM_WORLD
    if world.Get_size() == 1 and size > 1:
        return _alone(read_job, size, launcher, slurm)
    start = world.bcast(_prepared(read_job, slurm) if world.Get_rank() == 0 else None)
    if start is None:
        return COMPLETE
    if isinstance(start, HpcensError):
        if world.Get_rank() == 0:
            print(printable(f"hpcens: {start}"), file=sys.stderr)
        return start.exit_code
    run, number = start
    code = main(Path(run), number, size, launcher, tell, slurm=slurm, drain=drain)
    if world.Get_rank() == 0:
        print(f"verdict {code}; next: hpcens status {quoted(run)}")
    return code


def _launched() -> tuple[int, str]:
    """How many processes the launcher started, and its name."""
    size, launcher = next((int(os.environ[name]), by) for name, by in _SIZES.items() if name in os.environ)
    return size, "srun" if os.environ.get("SLURM_STEP_NUM_TASKS") == str(size) else launcher


def _prepared(read_job: Callable[[], Job], slurm: SlurmJob | None) -> tuple[str, int] | HpcensError | None:
    """Prepare the run, at rank 0: its directory and the epoch's number, None where it is complete, or the error."""
    from hpcens.launch.start import check_once, start

    try:
        job = read_job()
        checked = check_once(job)
        if checked.is_complete():
            print(printable(f"{job.output} is complete already; next: hpcens verify {quoted(job.output)}"))
            return None
        try:
            refuse_edited(RunDirectory.of(job.output).submission, slurm, checked.preflight)
        except FingerprintMismatch as error:
            claim(job, checked.preflight, slurm).judge(Verdict(error.exit_code, error.what, error.remedy))
            raise
        epoch = start(checked, partial(claim, slurm=slurm))
        return str(RunDirectory.of(job.output).path), epoch.number
    except Exception as error:  # whatever it is: the others wait to hear of it
        if not isinstance(error, HpcensError):
            with contextlib.suppress(OSError):  # the disk of the log may be full
                traceback.print_exc()
        return as_verdict(error)


def _alone(read_job: Callable[[], Job], size: int, launcher: str, slurm: SlurmJob | None) -> int:
    """Launcher and MPI do not speak to each other: one of the many worlds of 1 says so, to the verdict too."""
    from hpcens.launch.start import check_once

    try:
        check_world(1, size, launcher)
    except UsageError as error:
        if os.environ.get("SLURM_PROCID", "0") != "0":
            return error.exit_code
        checked = check_once(read_job())
        epoch = claim(checked.job, checked.preflight, slurm)
        epoch.judge(Verdict(error.exit_code, error.what, error.remedy))
        print(printable(f"hpcens: {error}"), file=sys.stderr)
        return error.exit_code
    return COMPLETE
