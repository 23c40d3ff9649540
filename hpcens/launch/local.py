"""Local: start the ranks of one host with mpiexec and see them through."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from hpcens.config import job_to_json
from hpcens.engine import discover, require_host_holds
from hpcens.entry import command
from hpcens.errors import FAILURE, UsageError, as_verdict
from hpcens.files import FULL, refusing
from hpcens.launch.follow import StopSignals
from hpcens.processes import die_with
from hpcens.processes.leftovers import sweep
from hpcens.runs import AGAIN, Claim, Epoch, RunDirectory, SlurmJob, Verdict, end_ranks
from hpcens.runs.announcement import Announcement
from hpcens.specs import Job
from hpcens.vocabulary import Plan

if TYPE_CHECKING:
    from hpcens.checks.preflight import Preflight

_LOOK_SECONDS = 0.1
_GRACE = 5.0
_FOREIGN = ("PMI_", "PMIX_", "SLURM_", "OMPI_", "HYDRA_", "MPIR_CVAR_NUM")


def start(
    job: Job,
    preflight: Preflight,
    *,
    only_profile: bool = False,
    tick: Callable[[Epoch], None] | None = None,
    announcement: str = "",
) -> Verdict:
    """Claim an epoch, run its ranks, and return how it ended; see `begin`.

    Raises UsageError: no mpiexec, no devices, another live start of the same run.
    """
    run = RunDirectory.of(job.output)
    ranks = ranks_of(job)
    return begin(run, ranks, order(job, preflight), only_profile=only_profile, tick=tick, announcement=announcement)


def claim(job: Job, preflight: Preflight, slurm: SlurmJob | None = None) -> Epoch:
    """Claim the job's next epoch for ranks that were started already, and leave there what they are to do.

    slurm  the job they run in, which may be requeued
    Raises UsageError where another start of the same run is alive.
    """
    run = RunDirectory.of(job.output)
    run.refuse_blocks()
    run.path.mkdir(exist_ok=True)
    return run.begin(slurm, order=order(job, preflight))


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
    announcement: str = "",
) -> Verdict:
    """Claim an epoch, run so many ranks, and return how it ended. TERM, INT and HUP drain; a second one kills.

    Where this process is killed, its ranks are too: the same command continues.

    tick          called several times a second while the ranks run
    announcement  id of what announced the start, if anything did
    Raises UsageError: no mpiexec, another live start of the same run.
    """
    mpi = [*mpiexec(), "-n", str(expected)]
    sweep()
    run.path.mkdir(exist_ok=True)
    epoch = run.begin(order=order, announcement=announcement)
    if announcement:
        Announcement(run.path, announcement).end()
    rank = command("hpcens.launch.witness", str(run.path), str(epoch.number), str(expected), "mpiexec")
    try:
        process = launch([*mpi, *rank, *(["--only-profile"] if only_profile else [])], epoch.log)
    except OSError as error:
        ending = as_verdict(error)
        return epoch.judge(Verdict(ending.exit_code, ending.what, ending.remedy))
    return _see_through(process, run, epoch, tick or (lambda epoch: None))


def launch(words: Sequence[str], log_file: Path) -> subprocess.Popen[bytes]:
    """Start a launcher of ranks, which dies with this process. Raises OSError where its log cannot be written.

    words  of its command line
    """
    environment = {k: v for k, v in os.environ.items() if not k.startswith(_FOREIGN)}
    with log_file.open("ab") as log:
        # a session of its own: a Ctrl-C at the terminal is ours to turn into a drain, not mpiexec's to die from
        return subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=environment,
            start_new_session=True,
            preexec_fn=partial(die_with, os.getpid()),
        )


def ranks_of(job: Job) -> int:
    """Count the ranks of a start: readers, reducers, and one for each device of this host.

    Of readers and reducers there is one each, unless a given plan has more. Raises UsageError where there is no device.
    """
    require_host_holds(job.spec.devices)
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
    claim = Claim.load(epoch.claim)
    with StopSignals(run, claim.names if claim else ()) as stop:
        try:
            while process.poll() is None:
                _wait(process, _LOOK_SECONDS)
                _show(tick, epoch)
                if (second := stop.pass_on()) is not None:
                    epoch.judge(Verdict(128 + second, f"killed by a second signal ({second.name})", AGAIN))
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
                if epoch.verdict is not None:
                    _wait(process, _GRACE)
                    break
            _show(tick, epoch)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            end_ranks(epoch)
    return epoch.verdict or epoch.judge(no_verdict(process.returncode, epoch.log))


def _show(tick: Callable[[Epoch], None], epoch: Epoch) -> None:
    with contextlib.suppress(OSError):  # a terminal that is gone, a log on a full disk: the run goes on
        tick(epoch)


def _wait(process: subprocess.Popen[bytes], seconds: float) -> None:
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(seconds)


def no_verdict(code: int, log: Path) -> Verdict:
    """Conclude from the disk and the log: the ranks are gone, and neither they nor their witnesses have said why.

    mpiexec ends them where the disk of its log is full.
    """
    if (refused := refusing(log.parent)) is not None:
        ending = as_verdict(refused)
        return Verdict(ending.exit_code, ending.what, ending.remedy)
    last = log.read_text(errors="replace").strip().splitlines()[-3:]
    for number in FULL:
        if any(os.strerror(number) in line for line in last):
            ending = as_verdict(OSError(number, os.strerror(number), str(log.parent)))
            return Verdict(ending.exit_code, ending.what, ending.remedy)
    return Verdict(FAILURE, f"mpiexec ended with code {code} and no verdict: {' | '.join(last)}", f"look into {log}")
