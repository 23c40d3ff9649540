"""Worlds that score many files as elements of Slurm's job arrays, each of one node, started whenever there is room.

The process of an element claims files and starts ranks on its node by itself; where nothing is left it ends at once.

    python hpcens/entry.py -m hpcens.worlds.elements FOLDER.run ROUND DRAIN REQUEUES
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from hpcens.errors import COMPLETE, HpcensError, UsageError
from hpcens.launch.cores import cores_per_rank
from hpcens.launch.job_python import job_command
from hpcens.launch.placement import gpus_per_node, leaving_out, placement
from hpcens.launch.slurm import DEAF, DRAIN_SECONDS, PATH_IN_ORDER
from hpcens.launch.time_limit import require_time_to_score
from hpcens.runs import DEFAULT_REQUEUES, RunDirectory, SlurmJob
from hpcens.scheduler import jobs
from hpcens.shell import has_control_characters, printable, quoted
from hpcens.specs import Job, SlurmSpec
from hpcens.units import Round, UnitsDirectory
from hpcens.units.failing import failing_nodes_of_units
from hpcens.worlds.dataset import world_of
from hpcens.worlds.world import Tally

# Fields of a job that worlds of one node settle by themselves.
_OF_ONE_WORLD = ("nodes", "tasks_per_node")
# Fields for ranks that srun starts: those of a world are started by mpiexec, on one node.
_OF_SRUN = ("mpi", "start_seconds")


def script(directory: UnitsDirectory, job: Job, own: Round, settings: SlurmSpec) -> str:
    """Return the script of one element. Raises UsageError where it cannot be asked for.

    job  of any of the files
    """
    for name in _OF_ONE_WORLD:
        if (value := getattr(settings, name)) not in (None, 1):
            raise UsageError(
                f"slurm.{name}: {value}, and each world of --array has one node and starts its own ranks",
                f"leave it out; for more nodes: --array {value}",
            )
    if settings.srun:
        raise UsageError(
            f"slurm.srun.{next(iter(settings.srun))}: the worlds of --array are not started by srun",
            f"--slurm srun.{next(iter(settings.srun))}=false; a container is named by slurm.python",
        )
    if "array" in settings.arguments:
        raise UsageError("slurm.arguments.array would be another array", "write --array 20, or --array 20%5")
    drain = settings.drain_seconds or DRAIN_SECONDS
    require_time_to_score(settings.time, drain)
    folder = directory.path / "jobs" / own.id
    further = leaving_out(settings, lambda: failing_nodes_of_units(directory))
    asked = {
        "job-name": f"hpcens-{directory.path.stem}-{own.id}",
        "nodes": 1,
        "ntasks-per-node": 1,
        "cpus-per-task": _cores(job, settings),
        "gpus-per-node": gpus_per_node(job, settings),
        **placement(settings),
        "open-mode": "append",
        "output": folder / "%A_%a.log",
        "requeue": True,
        "signal": f"B:USR2@{drain}",
        **{name.replace("_", "-"): value for name, value in further.items()},
    }
    lines = [f"#SBATCH --{name}" + ("" if value is True else f"={value}") for name, value in asked.items() if value]
    if any(has_control_characters(line) for line in (*lines, settings.python or "")):
        raise UsageError("what is asked of Slurm holds line breaks or other control characters", "write it without")
    requeues = DEFAULT_REQUEUES if settings.requeues is None else settings.requeues
    arguments = str(directory.path.absolute()), own.id, str(drain), str(requeues)
    start = f"exec {shlex.join(DEAF)} {job_command(settings, 'hpcens.worlds.elements', *arguments)}"
    setup = [*(settings.setup or ()), *PATH_IN_ORDER]
    return "\n".join(["#!/bin/bash", *lines, "", *setup, "", start, ""])


def refuse_of_srun(written: SlurmSpec) -> None:
    """Raise UsageError where a field is written that is for ranks started by srun.

    written  in the YAML or on the command line; a site profile's are for all jobs of a site, and passed over
    """
    for name in _OF_SRUN:
        if (value := getattr(written, name)) is not None:
            raise UsageError(
                f"slurm.{name}: {value} is for ranks that srun starts, and each world of --array starts its own",
                "leave it out; a site profile may keep it",
            )


def _cores(job: Job, settings: SlurmSpec) -> int:
    """Cores of a node: those of its CPU devices, which reader and reducer share; with GPUs one a rank."""
    cpu, gpus = job.spec.devices.cpu, gpus_per_node(job, settings)
    if cpu is None and gpus is None:
        raise UsageError(
            "nothing says how many devices a node has",
            "say it: --slurm gpus_per_node=4, or slurm.gpus_per_node or devices: {cpu: 2} in the YAML",
        )
    of_devices = cpu.count * cpu.cores if cpu is not None else 0
    each = settings.cpus_per_task or (cores_per_rank(job, settings, gpus + 2) if gpus else None) or 1
    return of_devices + (gpus + 2) * each if gpus else of_devices


def submit_worlds(
    directory: UnitsDirectory, job: Job, own: Round, settings: SlurmSpec, worlds: int, at_once: int | None
) -> Round:
    """Hand so many worlds to Slurm, in arrays as large as it takes; return the round with their ids.

    at_once  of each array that run beside each other; None: as many as there is room for
    Raises UsageError where Slurm refuses; arrays that it took before go on.
    """
    directory.private("jobs")
    folder = directory.private(f"jobs/{own.id}")
    path = folder / "script.sh"
    path.write_text(script(directory, job, own, settings))
    own = replace(own, folder=str(folder), worlds=worlds)
    directory.keep_round(own)  # before any can start
    for size in pieces(worlds, jobs.largest_array()):
        limit = f"%{at_once}" if at_once is not None else ""
        number, refused = jobs.submit(["--parsable", f"--array=0-{size - 1}{limit}", str(path)])
        if refused:
            goes_on = f"; job {', '.join(own.jobs)} goes on" if own.jobs else ""
            raise UsageError(f"sbatch refused the job: {refused}{goes_on}", "correct slurm: in the YAML, or --slurm")
        own = replace(own, jobs=(*own.jobs, number))
        directory.keep_round(own)
    return own


def pieces(worlds: int, largest: int) -> Iterator[int]:
    """Yield the sizes of the arrays that so many worlds are asked for in."""
    while worlds > 0:
        yield min(worlds, largest)
        worlds -= largest


def main(arguments: list[str]) -> int:
    """Be the process of an element: a world, which goes back into the queue where its time ended before the files."""
    directory, round_id = UnitsDirectory(Path(arguments[0])), arguments[1]
    drain, requeues = int(arguments[2]), int(arguments[3])
    os.environ.setdefault("SLURM_PROCID", "0")
    own = SlurmJob.here(round_id)
    if own is not None:  # of several arrays of a round the elements are numbered alike
        own = replace(own, element=f"{os.environ.get('SLURM_ARRAY_JOB_ID', own.id)}_{own.element}")
    ends = float(os.environ.get("SLURM_JOB_END_TIME") or 0)
    try:
        units = directory.newest_list
        if units is None and is_complete(directory.path):
            return COMPLETE  # the blocks are put together, and all records of them gone
        if units is None:
            raise UsageError(f"{directory.path} has no list of files", "submit it again")
        told = lambda line: print(printable(line), flush=True)  # noqa: E731
        world = world_of(directory, units, round_id, slurm=own, ends=ends - drain if ends else None, tell=told)
        tally = world.live()
    except HpcensError as error:
        print(printable(f"hpcens: {error}"), file=sys.stderr)
        return error.exit_code
    if own is not None and goes_back(tally, own.restart, requeues) and (refused := jobs.requeue(own.id)):
        print(f"hpcens: Slurm did not requeue job {own.id}: {refused}", file=sys.stderr)
    if tally.verdict is None:
        return COMPLETE
    print(printable(f"{tally.verdict.reason}; next: hpcens status {quoted(directory.path)}"))
    return tally.verdict.code


def is_complete(path: Path) -> bool:
    """Whether a dataset that worlds shared is scored: the last start of its run was the one that completed it."""
    newest = RunDirectory(path).newest
    verdict = newest.verdict if newest is not None else None
    return verdict is not None and verdict.code == COMPLETE


def goes_back(tally: Tally, restarts: int, requeues: int) -> bool:
    """Whether a world goes back into the queue: its time ended before the files, and it has gained something."""
    return tally.short and tally.gained and restarts < requeues


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
