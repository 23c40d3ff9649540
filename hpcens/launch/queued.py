"""Be the process of a job that submitit has queued, in the place of submitit's own.

A job is stored as a pickle, which is code: it is loaded only where nobody else could have written it. The pickle
names no more than `hpcens.launch.slurm.task`, or that of `submitit_local`, and its arguments in JSON.

    python hpcens/entry.py -m hpcens.launch.queued -u -m submitit.core._submit FOLDER
"""

from __future__ import annotations

import sys
from pathlib import Path

from hpcens.errors import UsageError
from hpcens.ownership import refuse_others
from hpcens.shell import printable


def main(arguments: list[str]) -> int:
    """Load the job of this process from submitit's folder, and live it.

    arguments  those of the command that submitit would run; the last is the folder
    """
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
    from submitit.core.submission import submitit_main

    submitit_main()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
