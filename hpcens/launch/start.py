"""Start: what happens before ranks run, whichever way they are started.

check the job, once ─► is it complete already? ─► are its members what they say? ─► a way to start it claims an epoch

`check_once` does the first two, `start` the others. The ways: `local.start` here and now, `submitit_local.submit`
here in the background, `slurm.submit` as a job of a cluster, `local.claim` for ranks that a launcher has started.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TypeVar

from hpcens.checks.members import check_members
from hpcens.checks.preflight import Preflight, check, is_complete
from hpcens.checks.trials import TrialBook
from hpcens.specs import Job

Started = TypeVar("Started")


def check_once(job: Job) -> Preflight | None:
    """Check all that the job names; return what was found, to be handed on, or None where its result is complete.

    Raises the error that the job would end with.
    """
    preflight = check(job)
    return None if is_complete(job, preflight) else preflight


def start(job: Job, preflight: Preflight, way: Callable[[Job, Preflight], Started]) -> Started:
    """Try the job's members, warn of what looks wrong, and start it this way; returns what the way returns.

    Raises what `check_members` and the way raise.
    """
    for warning in check_members(job, preflight, TrialBook.default()):
        print(f"hpcens: warning: {warning}", file=sys.stderr)
    return way(job, preflight)
