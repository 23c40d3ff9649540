"""Local: start the ranks of one host with mpiexec and see them through."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from hpcens.config import job_to_json
from hpcens.engine import discover
from hpcens.entry import command
from hpcens.errors import FAILURE, UsageError
from hpcens.launch.follow import StopSignals
from hpcens.runs import AGAIN, Epoch, RunDirectory, SlurmJob, Verdict, end_ranks
from hpcens.specs import Job
from hpcens.vocabulary import Plan

if TYPE_CHECKING:
    from hpcens.checks.preflight import Preflight

_LOOK_SECONDS = 0.1
_GRACE = 5.0
_FOREIGN = ("PMI_", "PMIX_", "SLURM_", "OMPI_", "HYDRA_", "MPIR_CVAR_NUM")


def start(
    job: Job, preflight: Preflight, *, only_profile: bool = False, tick: Callable[[Epoch], None] | None = None
) -> Verdict:
    """Claim an epoch, run its ranks, and return how it ended; see `begin`.

    Raises UsageError: no mpiexec, no devices, another live start of the same run.
    """
    run = RunDirectory.of(job.output)
    return begin(run, ranks_of(job), order(job, preflight), only_profile=only_profile, tick=tick)


def claim(job: Job, preflight: Preflight, slurm: SlurmJob | None = None) -> Epoch:
    """Claim the job's next epoch for ranks that were started already, and leave there what they are to do.

    slurm  the job they run in, which may be requeued
    Raises UsageError where another start of the same run is alive.
    """
    return _claim(RunDirectory.of(job.output), order(job, preflight), slurm)


def order(job: Job, preflight: Preflight) -> str:
    """Write out what a start is to do, as its rank 0 reads it."""
    return json.dumps({"job": job_to_json(job), "preflight": preflight.to_json()})


def begin(
    run: RunDirectory,
    expected: int,
    order: str,
    *,
    only_profile: bool = False,
    tick: Callable[[Epoch], None] | None = None,
) -> Verdict:
    """Claim an epoch, run so many ranks, and return how it ended. TERM and INT drain; a second one kills.

    tick  called several times a second while the ranks run
    Raises UsageError: no mpiexec, another live start of the same run.
    """
    mpi = [*mpiexec(), "-n", str(expected)]
    epoch = _claim(run, order)
    rank = command("hpcens.launch.witness", str(run.path), str(epoch.number), str(expected), "mpiexec")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(_FOREIGN)}
    with epoch.log.open("ab") as log:
        # a session of its own: a Ctrl-C at the terminal is ours to turn into a drain, not mpiexec's to die from
        process = subprocess.Popen(
            [*mpi, *rank, *(["--only-profile"] if only_profile else [])],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=environment,
            start_new_session=True,
        )
    return _see_through(process, run, epoch, tick or (lambda epoch: None))


def _claim(run: RunDirectory, order: str, slurm: SlurmJob | None = None) -> Epoch:
    epoch = run.begin(slurm)
    epoch.keep_order(order)
    return epoch


def ranks_of(job: Job) -> int:
    """Count the ranks of a start: readers, reducers, and one for each device of this host.

    Of readers and reducers there is one each, unless a given plan has more. Raises UsageError where there is no device.
    """
    devices = discover(job.spec.devices)
    if not devices:
        raise UsageError("this host has no device to compute on", "set devices in the YAML, e.g. devices: {cpu: 2}")
    if job.plan is None:
        return 2 + len(devices)
    plan = Plan.load(job.plan)
    return plan.readers + plan.reducers + len(devices)


def mpiexec() -> list[str]:
    """Find the mpiexec beside this Python, else the one on the path. Raises UsageError where there is none."""
    beside = Path(sys.executable).with_name("mpiexec")
    found = str(beside) if beside.exists() else shutil.which("mpiexec")
    if found is None:
        raise UsageError("there is no mpiexec", "pip install 'hpcens[local]', or load your site's MPI module")
    return [found]


def _see_through(
    process: subprocess.Popen[bytes], run: RunDirectory, epoch: Epoch, tick: Callable[[Epoch], None]
) -> Verdict:
    with StopSignals(run) as stop:
        try:
            while process.poll() is None:
                _wait(process, _LOOK_SECONDS)
                tick(epoch)
                if (second := stop.pass_on()) is not None:
                    epoch.judge(Verdict(128 + second, f"killed by a second signal ({second.name})", AGAIN))
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
                if epoch.verdict is not None:
                    _wait(process, _GRACE)
                    break
            tick(epoch)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            end_ranks(epoch)
    return epoch.verdict or epoch.judge(_no_verdict(process.returncode, epoch))


def _wait(process: subprocess.Popen[bytes], seconds: float) -> None:
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(seconds)


def _no_verdict(code: int, epoch: Epoch) -> Verdict:
    """Conclude from the log: the ranks are gone, and neither they nor their witnesses have said why."""
    last = epoch.log.read_text(errors="replace").strip().splitlines()[-3:]
    return Verdict(
        FAILURE, f"mpiexec ended with code {code} and no verdict: {' | '.join(last)}", f"look into {epoch.log}"
    )
