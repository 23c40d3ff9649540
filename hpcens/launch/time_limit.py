"""A job's limit of time, as sbatch takes it, and the warning before it."""

from __future__ import annotations

from hpcens.errors import UsageError
from hpcens.shell import option

# by so much Slurm may send a warning too early
_EARLY_SECONDS = 60


def require_time_to_score(limit: str | None, drain: int) -> None:
    """Raise UsageError where a job would be warned of its end before anything is scored.

    limit  of time, as sbatch takes it; None where the partition's holds
    drain  seconds between the warning and the end
    """
    if limit is None or drain + _EARLY_SECONDS < (seconds := limit_seconds(limit)):
        return
    raise UsageError(
        f"slurm.time {limit} is {seconds:.0f} s, and slurm.drain_seconds warns a job {drain} s before its end, of which"
        f" Slurm may make {drain + _EARLY_SECONDS}: it would drain before it scores anything",
        f"allow more time: {option('slurm', {'time': 30})}; or warn it later: {option('slurm', {'drain_seconds': 30})}",
    )


def limit_seconds(limit: str) -> int:
    """Return the seconds of a limit as sbatch takes it: minutes, [hours:]minutes:seconds, days-hours[:minutes[:s]]."""
    days, _, rest = limit.rpartition("-")
    parts = [int(part) for part in rest.split(":")]
    if days:
        hours, minutes, seconds = (*parts, 0, 0)[:3]
    elif len(parts) == 1:
        hours, minutes, seconds = 0, parts[0], 0
    else:
        hours, minutes, seconds = (0, *parts)[-3:]
    return ((int(days or 0) * 24 + hours) * 60 + minutes) * 60 + seconds
