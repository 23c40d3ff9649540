"""Explain what became of a start that left no verdict, in words, and what to do next.

By Slurm's word where it gives one, else from what lies in the run directory.
"""

from __future__ import annotations

import signal
from pathlib import Path

from hpcens.errors import FAILURE, INCOMPLETE, USAGE
from hpcens.runs.epoch import AGAIN, Epoch, Verdict
from hpcens.runs.liveness import signatures
from hpcens.runs.logs import all_lines, last_words
from hpcens.scheduler.jobs import Answer

_ENDS = {
    "TIMEOUT": ("the time limit was reached before the run could drain", f"{AGAIN}; give it more: --slurm time=…"),
    "DEADLINE": ("the job's deadline was reached", AGAIN),
    "PREEMPTED": ("it was preempted: the nodes were given to another job", AGAIN),
    "CANCELLED": ("it was cancelled", AGAIN),
    "OUT_OF_MEMORY": ("a node ran out of host memory", f"give it more: --slurm memory=…; then {AGAIN}"),
    "NODE_FAIL": ("a node failed", AGAIN),
    "BOOT_FAIL": ("a node could not boot", AGAIN),
}
# what MPI or Slurm writes where they do not understand each other → what to do about it
_MISFITS = {
    "mpi/pmi2: ": "pmi2 cuts off MPI's addresses; try --slurm mpi=pmix, or setup='export MPIR_CVAR_CH4_NETMOD=ofi'",
    "Invalid MPI type": "try --slurm mpi=pmi2; srun --mpi=list names those the site has",
    "unsupported PMI": "try --slurm mpi=pmi2, or pmix; srun --mpi=list names those the site has",
    "found no MPI world": "try --slurm mpi=pmi2, or pmix; srun --mpi=list names those the site has",
    "PMIX ERROR": "try --slurm mpi=pmi2; srun --mpi=list names those the site has",
}
_DEAF = str(128 + signal.SIGUSR2)
_LATE = "(slurm.start_seconds)"
_LATE_REMEDY = (
    "look at the nodes that are missing (sinfo -R), leave them out: --slurm exclude=…; or wait longer: start_seconds=…"
)


def explain(answer: Answer | None, folder: str, epoch: Epoch | None) -> Verdict:
    """Return the verdict a dead start would have left.

    answer  what Slurm says of its job, if it says anything
    folder  of the job's logs; empty if there is no job
    epoch   the start, if it came so far
    """
    if answer is not None and answer.state in _ENDS:
        end, remedy = _ENDS[answer.state]
        where = f" ({answer.nodes})" if answer.nodes else ""
        return Verdict(FAILURE if answer.state == "OUT_OF_MEMORY" else INCOMPLETE, f"{end}{where}", remedy)
    words = last_words(Path(folder)) if folder else ""
    if epoch is None:
        lines = list(all_lines(Path(folder))) if folder else []
        if line := next((line for line in lines if _LATE in line), ""):  # what ended it, whatever else was said
            what = line.removeprefix("hpcens: only ").strip()
            return Verdict(FAILURE, f"not all of the job's ranks came: {what}", _LATE_REMEDY)
        for symptom, remedy in _MISFITS.items():
            if line := next((line for line in lines if symptom in line), ""):
                return Verdict(USAGE, f"srun and the MPI library do not speak to each other: {line.strip()}", remedy)
        if answer is not None and answer.exit_code.partition(":")[0] == _DEAF:
            deaf = "its ranks were warned of the job's end (USR2) before they could hear it"
            return Verdict(INCOMPLETE, deaf, f"{AGAIN}; or give it more time: --slurm time=…")
        ended = (
            f"the job ended before the run began ({answer.state or 'unknown to Slurm'})" if answer else "no start yet"
        )
        return Verdict(FAILURE, f"{ended}: {words}" if words else ended, f"look into {folder}" if folder else AGAIN)
    hosts = ", ".join(sorted({signature.process.host for signature in signatures(epoch)})) or "its host"
    gone = f"its processes on {hosts} are gone and left no verdict: the host went down, or all were killed"
    if answer is not None and answer.state:
        gone += f"; Slurm says {answer.state}" + (f" ({answer.exit_code})" if answer.exit_code else "")
    return Verdict(INCOMPLETE if answer is None and not folder else FAILURE, gone, AGAIN)
