"""Start ranks on this host that measure a job's members and do nothing else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from hpcens.checks.preflight import Preflight
from hpcens.errors import COMPLETE, HpcensError
from hpcens.launch import local
from hpcens.processes.leftovers import temporary_prefix
from hpcens.runs import Epoch
from hpcens.specs import Job


def profile(job: Job, preflight: Preflight, *, tick: Callable[[Epoch], None]) -> None:
    """Measure what is not measured yet of the job's members on this host's devices, and keep the profiles.

    tick  called several times a second while the ranks run
    Raises HpcensError with what the measuring ended with.
    """
    with TemporaryDirectory(prefix=temporary_prefix()) as folder:
        elsewhere = replace(job, output=Path(folder) / "profile.h5")
        verdict = local.start(elsewhere, preflight, only_profile=True, tick=tick)
    if verdict.code != COMPLETE:
        raise HpcensError(verdict.reason, verdict.remedy)
