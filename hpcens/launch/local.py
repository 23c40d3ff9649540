"""Local: starts the ranks of one host with mpiexec and sees them through."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hpcens.errors import FAILURE, UsageError
from hpcens.launch.watch import Watch
from hpcens.preflight import Preflight
from hpcens.run import write_job
from hpcens.rundir import Epoch, RunDirectory, Verdict
from hpcens.runtimes.discover import discover
from hpcens.specs import Job

_GRACE = 5.0
_FOREIGN = ("PMI_", "PMIX_", "SLURM_", "OMPI_", "HYDRA_", "MPIR_CVAR_NUM")


def start(
    job: Job, preflight: Preflight, *, only_profile: bool = False, tick: Callable[[Epoch], None] | None = None
) -> Verdict:
    """Claim an epoch, run its ranks, and return how it ended. TERM and INT drain; a second one kills.

    tick  called several times a second while the ranks run
    Raises UsageError: no mpiexec, no devices, another live start of the same run.
    """
    expected = ranks_of(job)
    command = [*mpiexec(), "-n", str(expected)]
    run, epoch = prepare(job, preflight)
    rank = [sys.executable, "-m", "hpcens.run", str(run.path), str(epoch.number), str(expected), "mpiexec"]
    environment = {k: v for k, v in os.environ.items() if not k.startswith(_FOREIGN)}
    with epoch.log.open("ab") as log:
        # a session of its own: a Ctrl-C at the terminal is ours to turn into a drain, not mpiexec's to die from
        process = subprocess.Popen(
            [*command, *rank, *(["--only-profile"] if only_profile else [])],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=environment,
            start_new_session=True,
        )
    return _see_through(process, expected, run, epoch, tick or (lambda epoch: None))


def prepare(job: Job, preflight: Preflight) -> tuple[RunDirectory, Epoch]:
    """Claim the next epoch of the job's run directory and leave there what is to be done."""
    run = RunDirectory.of(job.output)
    run.path.mkdir(exist_ok=True)
    epoch = run.begin()
    write_job(epoch, job, preflight)
    return run, epoch


def ranks_of(job: Job) -> int:
    """Reader, reducer, and one rank a device of this host. Raises UsageError where there is no device."""
    devices = discover(job.spec.devices)
    if not devices:
        raise UsageError("this host has no device to compute on", "set devices in the YAML, e.g. devices: {cpu: 2}")
    return 2 + len(devices)


def mpiexec() -> list[str]:
    """The mpiexec beside this Python, else the one on the path. Raises UsageError where there is none.

    Hydra (MPICH, Intel) is told not to clear up after a death: it would kill the other ranks before the
    dead one is wholly gone, and nobody could tell which was first. The watch ends them instead.
    """
    beside = Path(sys.executable).with_name("mpiexec")
    found = str(beside) if beside.exists() else shutil.which("mpiexec")
    if found is None:
        raise UsageError("there is no mpiexec", "pip install 'hpcens[local]', or load your site's MPI module")
    told = subprocess.run([found, "--version"], capture_output=True, text=True, check=False).stdout
    return [found, "-disable-auto-cleanup"] if "HYDRA" in told else [found]


def _see_through(
    process: subprocess.Popen[bytes], expected: int, run: RunDirectory, epoch: Epoch, tick: Callable[[Epoch], None]
) -> Verdict:
    heard: list[int] = []
    old = {
        number: signal.signal(number, lambda n, frame: heard.append(n)) for number in (signal.SIGINT, signal.SIGTERM)
    }
    watch = Watch(epoch, expected)
    killed_by = ""
    try:
        while process.poll() is None:
            watch.wait(0.1)
            tick(epoch)
            if heard and not run.cancel.exists():
                run.cancel.write_text(f"stopped by {signal.Signals(heard[0]).name}")
            if len(heard) > 1 and not killed_by:
                killed_by = signal.Signals(heard[1]).name
                epoch.judge(Verdict(128 + heard[1], f"killed by a second signal ({killed_by})", _AGAIN))
                os.killpg(process.pid, signal.SIGKILL)
            silent = watch.silent()
            if silent is not None and epoch.verdict is None:
                epoch.judge(_fell_silent(silent))
                os.killpg(process.pid, signal.SIGKILL)
            if epoch.verdict is not None:
                _wait_briefly(process, watch, _GRACE)
            elif watch.first_dead is not None:
                epoch.judge(_died(watch.first_dead, 0, epoch))
                _wait_briefly(process, watch, 0.0)
        watch.wait(0)
        tick(epoch)
    finally:
        culprit = watch.first_dead
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        watch.end()
        for number, handler in old.items():
            signal.signal(number, handler)
    return epoch.verdict or epoch.judge(_died(culprit, process.returncode, epoch))


_AGAIN = "run the same command again: what is journalled is kept"


def _wait_briefly(process: subprocess.Popen[bytes], watch: Watch, seconds: float) -> None:
    """An end was announced: the launcher gets a moment to clear up, then it is done for it."""
    deadline = time.monotonic() + seconds
    while process.poll() is None and time.monotonic() < deadline:
        watch.wait(0.02)
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _fell_silent(signature: dict[str, Any]) -> Verdict:
    who = f"rank {signature['rank']} ({signature['role']})"
    return Verdict(FAILURE, f"{who} gave no sign of life for a minute", _AGAIN, signature["rank"], signature["role"])


def _died(culprit: dict[str, Any] | None, code: int, epoch: Epoch) -> Verdict:
    if culprit is not None:
        who = f"rank {culprit['rank']} ({culprit['role']}), process {culprit['pid']} on {culprit['host']},"
        return Verdict(
            FAILURE, f"{who} died without a word: killed, or crashed", _AGAIN, culprit["rank"], culprit["role"]
        )
    if code == 0:
        return Verdict(FAILURE, "the ranks ended without a verdict", f"look into {epoch.log}")
    said = epoch.log.read_text(errors="replace").strip().splitlines()[-3:]
    return Verdict(FAILURE, f"mpiexec ended with code {code}: {' | '.join(said)}", f"look into {epoch.log}")
