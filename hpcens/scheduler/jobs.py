"""Ask Slurm what it knows of a job, and have it requeued or ended, through its own commands.

Each has a time limit. A run goes on without any of it: where the controller does not answer, the answer is None.
"""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass

from hpcens.scheduler.commands import completed, output, refusal

_REQUEUE_SECONDS = 120.0
_LIVING = (
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
    nodes      as Slurm writes a list of them: n[1-2]
    exit_code  as Slurm writes it: code:signal
    ends       seconds since 1970 at which its time limit ends it, 0 if not known
    preempted  whether it was chosen to make room for another
    name       of the job
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
        return self.state in _LIVING


def answers() -> bool:
    """Whether there is a Slurm here that can be asked."""
    return shutil.which("sbatch") is not None and output(["sinfo", "-h", "-o", "%P"]) is not None


def ask(job: str) -> Answer | None:
    """Return what Slurm knows of the job: the controller, else the accounting; None where neither answers."""
    process = completed(["scontrol", "-o", "show", "job", job])
    if process is not None and process.returncode == 0:
        return parse_job(process.stdout)
    forgotten = process is not None and "Invalid job id" in process.stderr
    fields = "State,Reason,NodeList,ExitCode,JobName"
    accounted = output(["sacct", "-nPX", "-j", job, "-o", fields]) if forgotten else None
    if accounted and accounted.strip():
        state, why, nodes, code, name = accounted.strip().splitlines()[-1].split("|", 4)
        return Answer(state.split()[0], why, nodes.replace("None assigned", ""), code, name=name)
    return Answer("") if forgotten else None


def requeue(job: str) -> str:
    """Put a running job back into the queue; return why it was refused, in words, or nothing where it worked.

    A controller that is away is waited for: it ends no job meanwhile, and nobody else would have the job go on.
    """
    deadline = time.monotonic() + _REQUEUE_SECONDS
    while (refused := refusal(["scontrol", "requeue", job])) and _away(refused) and time.monotonic() < deadline:
        time.sleep(1.0)
    return refused


def end(jobs: Sequence[str]) -> str:
    """End jobs, queued or running; return why it was refused, in words, or nothing where it worked."""
    return refusal(["scancel", *jobs])


def parse_job(text: str) -> Answer:
    """Return a line of `scontrol -o show job` as an answer."""
    values = dict(re.findall(r"(?:^|\s)([A-Z][\w/:&]*)=(\S*)", text))
    return Answer(
        state=values.get("JobState", ""),
        why=values.get("Reason", "").replace("None", ""),
        nodes=values.get("NodeList", "").replace("(null)", ""),
        exit_code=values.get("ExitCode", ""),
        ends=_seconds(values.get("EndTime", "")),
        preempted="PreemptTime" in values and values["PreemptTime"] not in ("None", "Unknown", ""),
        name=values.get("JobName", ""),
    )


def _seconds(text: str) -> float:
    try:
        return time.mktime(time.strptime(text, "%Y-%m-%dT%H:%M:%S"))
    except ValueError:
        return 0.0


def _away(refusal: str) -> bool:
    return "Unable to contact slurm controller" in refusal or "gave no answer" in refusal
