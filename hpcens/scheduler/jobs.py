"""Ask Slurm what it knows of a job, and have it requeued or ended, through its own commands.

Each has a time limit. A run goes on without any of it: where the controller does not answer, the answer is None.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from hpcens.scheduler.commands import completed, output, refusal

_REQUEUE_SECONDS = 120.0
_SUBMIT_SECONDS = 120.0
_LARGEST_ARRAY = 1000  # what Slurm allows where nothing else is set
# What squeue is asked for → the width of its column; the last, a name of any length, takes the rest of the line.
_COLUMNS = {
    "JobID": 20,
    "State": 20,
    "Reason": 100,
    "NodeList": 400,
    "exit_code": 12,
    "EndTime": 24,
    "PreemptTime": 24,
    "RestartCnt": 8,
    "SubmitTime": 24,
    "StartTime": 24,
    "Name": 300,
}
_NO_TIME = ("None", "NONE", "Unknown", "N/A", "")
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
    restarts   how often it was put back into the queue
    submitted  seconds since 1970 at which it was put into the queue, the last time; 0 if not known
    starts     seconds since 1970 at which it started, or is expected to; 0 if not known
    """

    state: str
    why: str = ""
    nodes: str = ""
    exit_code: str = ""
    ends: float = 0.0
    preempted: bool = False
    name: str = ""
    restarts: int = 0
    submitted: float = 0.0
    starts: float = 0.0

    @property
    def lives(self) -> bool:
        """Whether the job waits or runs."""
        return self.state in _LIVING


def answers() -> bool:
    """Whether there is a Slurm here that can be asked."""
    return shutil.which("sbatch") is not None and output(["sinfo", "-h", "-o", "%P"]) is not None


def installed() -> bool:
    """Whether this host has Slurm's commands."""
    return shutil.which("scontrol") is not None


def ask(job: str) -> Answer | None:
    """Return what Slurm knows of the job: the controller, else the accounting; None where neither answers."""
    process = completed(["scontrol", "-o", "show", "job", job])
    if process is not None and process.returncode == 0:
        return parse_job(process.stdout)
    forgotten = process is not None and "Invalid job id" in process.stderr
    return _accounted([job]).get(job, Answer("")) if forgotten else None


def ask_all(asked: Collection[str]) -> dict[str, Answer] | None:
    """Return what Slurm knows of jobs, asked at once: the controller, and the accounting for those it has forgotten.

    None where the controller does not answer.
    """
    if len(asked) == 1:
        [job] = asked
        return None if (answer := ask(job)) is None else {job: answer}
    columns = ",".join(f"{name}:{width}" for name, width in _COLUMNS.items())
    queue = output(["squeue", "-h", "-t", "all", "-j", ",".join(asked), "-O", columns]) if asked else ""
    if queue is None:
        return None
    answers = dict(map(parse_queue, queue.splitlines()))
    forgotten = [job for job in asked if job not in answers]
    if forgotten:
        answers |= _accounted(forgotten)
    return {job: answers.get(job, Answer("")) for job in asked}


def submit(arguments: Sequence[str]) -> tuple[str, str]:
    """Run sbatch, with --parsable; return the id of the job, and why it was refused, in words: one of them is empty."""
    try:
        words = ["sbatch", *arguments]
        done = subprocess.run(words, capture_output=True, text=True, timeout=_SUBMIT_SECONDS, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.TimeoutExpired) as error:
        return "", str(error)
    if done.returncode:
        lines = [line for line in done.stderr.strip().splitlines() if 'Try "sbatch --help"' not in line]
        return "", lines[-1] if lines else f"sbatch ended with code {done.returncode}"
    return done.stdout.strip().partition(";")[0], ""


def largest_array() -> int:
    """Return how many elements a job array may have here."""
    found = re.search(r"MaxArraySize\s*=\s*(\d+)", output(["scontrol", "show", "config"]) or "")
    return max(1, int(found[1]) - 1) if found else _LARGEST_ARRAY


def elements(asked: Sequence[str]) -> dict[str, str] | None:
    """Return the elements of job arrays that wait or run, as ARRAY_NUMBER → state; None: the controller is silent."""
    known = completed(["squeue", "-h", "-r", "-j", ",".join(asked), "-o", "%i %T"])
    if known is None or (known.returncode and "Invalid job id" not in known.stderr):
        return None
    lines = (line.partition(" ") for line in known.stdout.splitlines())
    return {element: state for element, _, state in lines}


def _accounted(asked: Sequence[str]) -> dict[str, Answer]:
    """Return what the accounting knows of jobs; nothing where there is none."""
    fields = "JobIDRaw,State,Reason,NodeList,ExitCode,JobName"
    found = {}
    for line in (output(["sacct", "-nPX", "-j", ",".join(asked), "-o", fields]) or "").strip().splitlines():
        job, state, why, nodes, code, name = line.split("|", 5)
        found[job] = Answer(state.split()[0], why, nodes.replace("None assigned", ""), code, name=name)
    return found


def end_of(job: str) -> float:
    """Return the seconds since 1970 at which the time limit ends a job; 0 where that is not known."""
    answer = ask(job)
    return answer.ends if answer is not None else 0.0


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
        preempted="PreemptTime" in values and values["PreemptTime"] not in _NO_TIME,
        name=values.get("JobName", ""),
        restarts=_number(values.get("Restarts", "")),
        submitted=_seconds(values.get("SubmitTime", "")),
        starts=_seconds(values.get("StartTime", "")),
    )


def parse_queue(line: str) -> tuple[str, Answer]:
    """Return a line of squeue, in columns as `ask_all` asks for them, as the job's id and an answer."""
    values, begin = {}, 0
    for name, width in _COLUMNS.items():
        values[name] = line[begin : None if name == "Name" else begin + width].strip()
        begin += width
    status = values["exit_code"]  # of wait(2), where it is a plain number
    return values["JobID"], Answer(
        state=values["State"],
        why=values["Reason"].replace("None", ""),
        nodes=values["NodeList"],
        exit_code=f"{int(status) >> 8}:{int(status) & 0x7F}" if status.isdecimal() else status,
        ends=_seconds(values["EndTime"]),
        preempted=values["PreemptTime"] not in _NO_TIME,
        name=values["Name"],
        restarts=_number(values["RestartCnt"]),
        submitted=_seconds(values["SubmitTime"]),
        starts=_seconds(values["StartTime"]),
    )


def _number(text: str) -> int:
    return int(text) if text.isdecimal() else 0


def _seconds(text: str) -> float:
    try:
        return time.mktime(time.strptime(text, "%Y-%m-%dT%H:%M:%S"))
    except ValueError:
        return 0.0


def _away(refusal: str) -> bool:
    return "Unable to contact slurm controller" in refusal or "gave no answer" in refusal
