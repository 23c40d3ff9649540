"""Run one of Slurm's own commands, with a time limit."""

from __future__ import annotations

import subprocess

_LIMIT_SECONDS = 5.0


def refusal(command: list[str]) -> str:
    """Run the command; return why it failed, in words, or nothing where it worked."""
    process = completed(command)
    if process is None:
        return f"{command[0]} gave no answer within {_LIMIT_SECONDS:.0f} s"
    return (
        (process.stderr.strip() or f"{command[0]} ended with code {process.returncode}") if process.returncode else ""
    )


def output(command: list[str]) -> str | None:
    """Run the command; return what it printed, None where it failed or gave no answer in time."""
    process = completed(command)
    return process.stdout if process is not None and process.returncode == 0 else None


def completed(command: list[str]) -> subprocess.CompletedProcess[str] | None:
    """Run the command to its end; return None where it cannot be run or gave no answer in time."""
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=_LIMIT_SECONDS, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.TimeoutExpired):
        return None
