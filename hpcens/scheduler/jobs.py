"""The controller: what Slurm knows of a job, asked through its own commands, each with a time limit.

Nothing here is needed for a run to go on: where the controller does not answer, its answer is None.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

from hpcens.runs.directory import RunDirectory, read_json, write_atomically

ASK_SECONDS = 40.0
"""A run's controller is asked at most this often, whoever asks."""

_PATIENCE = 5.0
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
# States of nodes, as sinfo shortens them, of which a job can wait to get some.
_USABLE = ("idle", "mix", "alloc", "comp", "plnd", "resv")


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
    return shutil.which("sbatch") is not None and _said(["sinfo", "-h", "-o", "%P"]) is not None


@dataclass(frozen=True, slots=True)
class NodeGroup:
    """Nodes of one partition that nothing tells apart.

    gpus    (type as gres.conf names it, maybe empty; how many a node has)
    memory  bytes of a node
    """

    partition: str
    nodes: int
    cpus: int
    memory: int
    gpus: tuple[tuple[str, int], ...] = ()


def node_groups() -> tuple[NodeGroup, ...]:
    """The nodes of the cluster that can be used; () where no Slurm answers."""
    return parse_nodes(_said(["sinfo", "-h", "-o", "%R|%D|%t|%c|%m|%G"]) or "")


def parse_nodes(text: str) -> tuple[NodeGroup, ...]:
    """Lines of sinfo, partition|nodes|state|CPUs|MiB|gres each, as groups; without nodes that are down or drained."""
    found: dict[NodeGroup, int] = {}
    for line in text.splitlines():
        partition, nodes, state, cpus, memory, gres = (part.strip() for part in line.split("|", 5))
        if re.sub(r"[^a-z]", "", state) not in _USABLE:
            continue
        gpus = tuple((kind or "", int(count)) for kind, count in re.findall(r"\bgpu:(?:([^:,(]+):)?(\d+)", gres))
        group = NodeGroup(partition, 0, int(cpus.rstrip("+")), int(memory.rstrip("+")) << 20, gpus)
        found[group] = found.get(group, 0) + int(nodes)
    return tuple(replace(group, nodes=nodes) for group, nodes in found.items())


def ask(job: str) -> Answer | None:
    """What Slurm knows of the job: the controller, else the accounting; None where neither answers."""
    process = _run(["scontrol", "-o", "show", "job", job])
    if process is not None and process.returncode == 0:
        return parse_job(process.stdout)
    forgotten = process is not None and "Invalid job id" in process.stderr
    kept = _said(["sacct", "-nPX", "-j", job, "-o", "State,Reason,NodeList,ExitCode,JobName"]) if forgotten else None
    if kept and kept.strip():
        state, why, nodes, code, name = kept.strip().splitlines()[-1].split("|", 4)
        return Answer(state.split()[0], why, nodes.replace("None assigned", ""), code, name=name)
    return Answer("") if forgotten else None


def ask_sparingly(run: RunDirectory, job: str) -> tuple[Answer | None, float]:
    """The answer kept in the run directory, asked for again once it is old; and its age in seconds."""
    kept = read_json(run.path / "controller.json")
    now = time.time()
    if kept and kept["job"] == job and 0 <= now - kept["asked"] < ASK_SECONDS:
        return (Answer(**kept["answer"]) if kept["answer"] else None), now - kept["asked"]
    answer = ask(job)
    note(run, job, answer)
    return answer, 0.0


def note(run: RunDirectory, job: str, answer: Answer | None) -> None:
    """Keep an answer for whoever asks next; a run directory that cannot be written to keeps none."""
    kept = {"job": job, "asked": time.time(), "answer": asdict(answer) if answer else None}
    try:
        write_atomically(run.path / "controller.json", json.dumps(kept))
    except OSError:
        return


def requeue(job: str) -> str:
    """Put a running job back into the queue; why not, in words, or nothing where it worked.

    A controller that is away is waited for: it ends no job meanwhile, and nobody else would have the job go on.
    """
    deadline = time.monotonic() + _INSIST
    while (refused := _refusal(["scontrol", "requeue", job])) and _away(refused) and time.monotonic() < deadline:
        time.sleep(1.0)
    return refused


def end(jobs: Sequence[str]) -> str:
    """End jobs, queued or running; why not, in words, or nothing where it worked."""
    return _refusal(["scancel", *jobs])


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


def _refusal(command: list[str]) -> str:
    process = _run(command)
    if process is None:
        return f"{command[0]} gave no answer within {_PATIENCE:.0f} s"
    return (
        (process.stderr.strip() or f"{command[0]} ended with code {process.returncode}") if process.returncode else ""
    )


def _said(command: list[str]) -> str | None:
    process = _run(command)
    return process.stdout if process is not None and process.returncode == 0 else None


def _run(command: list[str]) -> subprocess.CompletedProcess[str] | None:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.TimeoutExpired):
        return None
