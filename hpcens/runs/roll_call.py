"""The roll call of a job's tasks: each says that it is here, in a file of its node, before it begins MPI.

MPI waits for all ranks without a word of who is late: a node whose file system is cold may need minutes to import what
another imports in seconds, and one that is broken never comes.

Where a task dies in MPI's begin, the job starts them all again, in place: it would wait in the queue again for a
chance failure of seconds.

SUBMISSION/arrived/JOB.RESTART/NODE   a line for each of its tasks: number of the task, number of all
SUBMISSION/stillborn/JOB.RESTART      a task that was here ended before there was a world
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from hpcens.scheduler.nodes import hostnames

START_SECONDS = 900
# variable of a job's ranks that are started again: how often they were, and its value the last time
AGAIN = "HPCENS_STARTED_AGAIN"
LAST = "2"
_AGAIN = """\
# ranks of which one dies before they have found each other are started again, twice at most
srun() {
  command srun "$@" && return
  code=$? start=$SLURM_JOB_ID.${SLURM_RESTART_COUNT:-0}
  for again in 1 LAST; do
    [ -e FOLDER/stillborn/$start ] || return $code
    echo "hpcens: note: a rank died before all had found each other: they are started again" >&2
    rm -rf FOLDER/arrived/$start FOLDER/stillborn/$start
    AGAIN=$again command srun "$@" && return
    code=$?
  done
  return $code
}"""
# Seconds in which ranks that are all here find each other.
_MEETING = 120.0
_LOOK, _SAY = 10.0, 60.0


class RollCall:
    """The roll call of one start of a job, as one of its tasks sees it.

    folder       of the submission
    environment  of the task
    seconds      in which all are to come
    meeting      seconds in which they find each other then
    """

    def __init__(
        self, folder: Path, environment: Mapping[str, str], seconds: float = START_SECONDS, meeting: float = _MEETING
    ) -> None:
        self._folder = folder / "arrived" / f"{environment['SLURM_JOB_ID']}.{environment.get('SLURM_RESTART_COUNT', 0)}"
        self._node = environment["SLURMD_NODENAME"]
        self._task, self._of = environment["SLURM_PROCID"], int(environment["SLURM_STEP_NUM_TASKS"])
        self._nodes = environment.get("SLURM_STEP_NODELIST", "")
        self._each = environment.get("SLURM_STEP_TASKS_PER_NODE", "")
        self._seconds, self._meeting = seconds, meeting
        self._looked = self._said = 0.0
        self._complete: float | None = None

    def sign(self) -> None:
        """Say that this task is here. Where the disk refuses it the start goes on without."""
        with contextlib.suppress(OSError):
            self._folder.mkdir(parents=True, exist_ok=True)
            with (self._folder / self._node).open("a") as file:
                file.write(f"{self._task} {self._of}\n")

    def end(self) -> None:
        """Forget it: the world has formed. At the first task alone."""
        if self._task == "0":
            shutil.rmtree(self._folder, ignore_errors=True)

    def note_death(self) -> None:
        """Note that this task ends before there is a world, if it has come so far as to begin MPI."""
        with contextlib.suppress(OSError):
            if (self._folder / self._node).exists():
                stillborn = self._folder.parents[1] / "stillborn"
                stillborn.mkdir(exist_ok=True)
                (stillborn / self._folder.name).touch()

    def overdue(self, waited: float) -> str:
        """Return why the world will not form any more, in words; nothing while it may. Called again and again.

        The first task looks for all, and tells the log who is missing; the others for the case that it never came.

        waited  seconds since this task began
        """
        first = self._task == "0"
        if not first and waited <= self._seconds + 2 * self._meeting:
            return ""
        if waited - self._looked < _LOOK and waited <= self._seconds:
            return ""
        self._looked = waited
        here = arrived(self._folder)
        if sum(here.values()) >= self._of:
            self._complete = waited if self._complete is None else self._complete
            if waited - self._complete <= self._meeting:
                return ""
            self.note_death()  # of an address that pmi2 cut off some versions of MPI die, others wait for ever
            return (
                f"all {self._of} ranks came, but found no MPI world within {self._meeting:.0f} s:"
                " srun --mpi and MPI may not fit"
            )
        expected = dict(zip(hostnames(self._nodes), tasks_per_node(self._each), strict=False))
        if waited > self._seconds:
            return f"only {standing(here, self._of, expected)}, after {self._seconds:.0f} s (slurm.start_seconds)"
        if waited - self._said >= _SAY:
            self._said = waited
            print(f"hpcens: {standing(here, self._of, expected)}", file=sys.stderr, flush=True)
        return ""


def again(submission: Path) -> str:
    """Return what a job's script defines so that ranks which died before they found each other start again.

    submission  its folder
    """
    folder = shlex.quote(str(submission))
    return _AGAIN.replace("FOLDER", folder).replace("AGAIN", AGAIN).replace("LAST", LAST)


def arrived(folder: Path) -> dict[str, int]:
    """Count the tasks of each node that have come."""
    here = {}
    with contextlib.suppress(OSError):
        for path in sorted(folder.iterdir()):
            here[path.name] = len(set(path.read_text().splitlines()))
    return here


def standing(here: Mapping[str, int], of: int, expected: Mapping[str, int]) -> str:
    """Say who is here and who is not: '61 of 64 ranks are here; missing: n7, n9 (4 of 8)'.

    expected  node → its tasks; empty where Slurm does not say
    """
    missing = [
        f"{node} ({here[node]} of {count})" if here.get(node) else node
        for node, count in expected.items()
        if here.get(node, 0) < count
    ]
    return f"{sum(here.values())} of {of} ranks are here" + (f"; missing: {', '.join(missing)}" if missing else "")


def present(submission: str, job: str, nodes: str) -> str:
    """Say of a job that starts who is here, as `standing` does; nothing where nobody is, or the world has formed.

    submission  folder of the job's submission
    nodes       of the job, as Slurm writes a list of them
    """
    with contextlib.suppress(OSError):  # the world forms at this very moment
        folder = max(Path(submission, "arrived").glob(f"{job}.*"), key=os.path.getmtime, default=None)
        if folder is not None and (here := arrived(folder)):
            lines = [path.read_text().split() for path in folder.iterdir()]
            of = max((int(words[1]) for words in lines if len(words) > 1), default=0)
            return standing(here, of, {node: max(1, here.get(node, 0)) for node in hostnames(nodes)})
    return ""


def tasks_per_node(text: str) -> Sequence[int]:
    """Return the numbers that Slurm writes as 6(x2),4."""
    return [int(count) for count, times in re.findall(r"(\d+)(?:\(x(\d+)\))?", text) for _ in range(int(times or "1"))]


def roll_call_here(submission: Path, seconds: float) -> RollCall | None:
    """Return the roll call of this process's step; None where it is in none that says how many tasks it has.

    submission  folder of its submission
    seconds     for which ranks are waited for
    """
    needed = ("SLURM_JOB_ID", "SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURMD_NODENAME")
    return RollCall(submission, os.environ, seconds) if all(name in os.environ for name in needed) else None
