"""Be the process of a job that submitit has queued, in the place of submitit's own.

A job is stored as a pickle, which is code: it is loaded only where nobody else could have written it. The pickle
names no more than `hpcens.launch.slurm.task`, or that of `submitit_local`, and its arguments in JSON.

    python hpcens/entry.py -m hpcens.launch.queued -u -m submitit.core._submit FOLDER
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

from hpcens.errors import FAILURE, UsageError
from hpcens.ownership import refuse_others
from hpcens.shell import printable

_PICKLE_SECONDS = 60.0
_LOOK_SECONDS = 0.2


def main(arguments: list[str]) -> int:
    """Load the job of this process from submitit's folder, and live it.

    arguments  those of the command that submitit would run; the last is the folder
    """
    if os.environ.get("SUBMITIT_EXECUTOR") == "slurm":
        # submitit would take them for its own; they wait for the rank, see `launch.witness`
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM, signal.SIGUSR2})
    folder = Path(arguments[-1])
    run = next((path for path in folder.parents if path.suffix == ".run"), folder)
    try:
        between = [path for path in (folder, *folder.parents) if path.is_relative_to(run)]
        reachable = folder.stat().st_mode & 0o077  # else nobody reaches what lies in it, whatever its mode
        for path in (*between, *(folder.glob("*.pkl") if reachable else ())):
            refuse_others(path, "submit it again")
    except UsageError as error:
        print(printable(f"hpcens: {error}"), file=sys.stderr)
        return error.exit_code
    sys.argv[:] = [sys.argv[0], str(folder)]
    if os.environ.get("SUBMITIT_EXECUTOR") == "slurm":
        return _be_task(folder)
    from submitit.core.submission import submitit_main

    submitit_main()
    return 0


def _be_task(folder: Path) -> int:
    """Be a task of Slurm's. What it returns is in the run directory: nothing more is left here for each of them."""
    from submitit.core.job_environment import JobEnvironment
    from submitit.core.utils import DelayedSubmission

    os.environ["SUBMITIT_FOLDER"] = str(folder)
    job = JobEnvironment().paths.submitted_pickle
    deadline = time.monotonic() + _PICKLE_SECONDS
    while not job.exists():  # a job may start before sbatch has told its number, after which the file is named
        if time.monotonic() > deadline:
            print(f"hpcens: {job} is not there {_PICKLE_SECONDS:.0f} s after the start", file=sys.stderr)
            return FAILURE
        time.sleep(_LOOK_SECONDS)
    DelayedSubmission.load(job).result()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
