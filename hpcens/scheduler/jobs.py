"""The controller: what Slurm knows of a job, asked through its own commands, each with a time limit.

Nothing here is needed for a run to go on: where the controller does not answer, its answer is None.
"""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass

from hpcens.scheduler.commands import completed, refusal, said

_INSIST = 120.0
LIVING = (
    "PENDING",
    "RUNNING",
    "CONFIGURING",
    "COMPLETING",
    "SUSPENDED",
    "REQUEUED",
    "STOPPED",
    "SIGNALING",
    "RESIZING",
)


@dataclass(frozen=True, slots=True)
class Answer:
    """A job as Slurm sees it.

    state      PENDING, RUNNING, TIMEOUT, …; empty: Slurm does not know the job (any more)
    why        Slurm's reason, for example Priority or NodeDown
    ends       seconds since 1970 at which its time limit ends it, 0 if not known
    preempted  whether it was chosen to make room for another
    """

    state: str
    why: str = ""
    nodes: str = ""
    exit_code: str = ""
    ends: float = 0.0
    preempted: bool = False
    name: str = ""

    @property
    def lives(self) -> bool:
        return self.state in LIVING


def answers() -> bool:
    """Whether there is a Slurm here that can be asked."""
    return shutil.which("sbatch") is not None and said(["sinfo", "-h", "-o", "%P"]) is not None


def ask(job: str) -> Answer | None:
    """What Slurm knows of the job: the controller, else the accounting; None where neither answers."""
    process = completed(["scontrol", "-o", "show", "job", job])
    if process is not None and process.returncode == 0:
        return parse_job(process.stdout)
    forgotten = process is not None and "Invalid job id" in process.stderr
    kept = said(["sacct", "-nPX", "-j", job, "-o", "State,Reason,NodeList,ExitCode,JobName"]) if forgotten else None
    if kept and kept.strip():
        state, why, nodes, code, name = kept.strip().splitlines()[-1].split("|", 4)
        return Answer(state.split()[0], why, nodes.replace("None assigned", ""), code, name=name)
    return Answer("") if forgotten else None


def requeue(job: str) -> str:
    """Put a running job back into the queue; why not, in words, or nothing where it worked.

    A controller that is away is waited for: it ends no job meanwhile, and nobody else would have the job go on.
    """
    deadline = time.monotonic() + _INSIST
    while (refused := refusal(["scontrol", "requeue", job])) and _away(refused) and time.monotonic() < deadline:
        time.sleep(1.0)
    return refused


def end(jobs: Sequence[str]) -> str:
    """End jobs, queued or running; why not, in words, or nothing where it worked."""
    return refusal(["scancel", *jobs])


def parse_job(text: str) -> Answer:
    """A line of `scontrol -o show job` as an answer."""
    found = dict(re.findall(r"(?:^|\s)([A-Z][\w/:&]*)=(\S*)", text))
    return Answer(
        state=found.get("JobState", ""),
        why=found.get("Reason", "").replace("None", ""),
        nodes=found.get("NodeList", "").replace("(null)", ""),
        exit_code=found.get("ExitCode", ""),
        ends=_seconds(found.get("EndTime", "")),
        preempted="PreemptTime" in found and found["PreemptTime"] not in ("None", "Unknown", ""),
        name=found.get("JobName", ""),
    )


def _seconds(text: str) -> float:
    try:
        return time.mktime(time.strptime(text, "%Y-%m-%dT%H:%M:%S"))
    except ValueError:
        return 0.0


def _away(refusal: str) -> bool:
    return "Unable to contact slurm controller" in refusal or "gave no answer" in refusal
