"""Read the logs of a submission's jobs: one of each node, in which every line says its task, and one of the script.

JOB_NODE.log     what the ranks of a node wrote: "3: text"; Slurm writes the number of the task before each line
JOB_script.log   what the script and srun wrote
JOB_TASK_log.*   of earlier versions: one or two a rank
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

SCRIPT = "%j_script.log"
"""Name of the script's log, as Slurm writes names."""
NODE = "%j_%N_%n.log"
"""Name of a node's log: with its number in the job, as the virtual nodes of one host share its name."""
_LABELLED = re.compile(r"\s*(\d+): ?(.*)")
_WITNESS = "hpcens: a rank on "
_OTHERS = ("srun:", "slurmstepd:", "slurmstepd-")


def log_files(folder: Path) -> list[Path]:
    """Return the logs that hold anything, in the order of jobs and then of nodes or tasks."""
    logs = (path for pattern in ("*.log", "*_log.*") for path in folder.glob(pattern) if path.stat().st_size)
    return sorted(logs, key=_order)


def _order(path: Path) -> list[tuple[int, str]]:
    return [(int(part) if part.isdecimal() else 0, part) for part in re.split(r"(\d+)", path.name)]


def log_lines(path: Path, text: str) -> Iterator[tuple[int | None, str]]:
    """Yield a log's lines, each with the number of the task that wrote it; None where no task did, or none is named.

    text  of the log, or its end
    """
    old = re.match(r"\d+_(\d+)_log\.", path.name)
    labelled = old is None and not path.name.endswith(SCRIPT.removeprefix("%j"))
    for line in text.splitlines():
        if labelled and (match := _LABELLED.fullmatch(line)):
            yield int(match[1]), match[2]
        else:
            yield int(old[1]) if old else None, line


def last_words(folder: Path) -> str:
    """Return the last line of the first task that says anything of its own, else what Slurm said last."""
    words: dict[int, str] = {}
    others = ""
    for path in log_files(folder):
        for task, line in log_lines(path, tail(path)):
            if line.startswith(_WITNESS) and words:  # which knows less than the rank has said
                continue
            if line.strip() and not line.startswith(_OTHERS):
                words[-1 if task is None else task] = line.strip()
            elif line.strip():
                others = line.strip()
    return words[min(words)] if words else others


def all_lines(folder: Path) -> Iterator[str]:
    """Yield the last lines of all logs, without the numbers of tasks."""
    for path in log_files(folder):
        for _, line in log_lines(path, tail(path)):
            yield line


def tail(path: Path) -> str:
    """Return the end of a log."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - (1 << 14)))
        return file.read().decode(errors="replace")
