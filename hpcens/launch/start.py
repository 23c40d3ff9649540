"""Start: what happens before ranks run, whichever way they are started.

check the job, once ─► is it complete already? ─► are its members what they say? ─► a way to start it claims an epoch

`check_once` begins it, `start` ends it. The ways: `local.start` here and now, `submitit_local.submit` here in the
background, `slurm.submit` as a job of a cluster, `local.claim` for ranks that a launcher has started.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar

from hpcens.checks.members import check_members, tried, unsteady_members
from hpcens.checks.notes import notes
from hpcens.checks.preflight import Preflight, begins_anew_in, check, is_complete
from hpcens.checks.testbed import Testbed, Trials
from hpcens.config.seats import naming_lines
from hpcens.shell import printable
from hpcens.specs import Job, SlurmSpec

Started = TypeVar("Started")
Way = Callable[[Job, Preflight], Started]


@dataclass(frozen=True, slots=True)
class CheckedJob:
    """A job with what was found of it, to be handed on: checking takes as long as reading all weights."""

    job: Job
    preflight: Preflight
    testbed: Testbed

    def is_complete(self) -> bool:
        """Return whether the result is complete already. Raises FingerprintMismatch where it is another job's."""
        return is_complete(self.job, self.preflight)


def check_once(job: Job, trials: Trials = "here") -> CheckedJob:
    """Check all that the job names, and try members whose code is new here. Raises what the job would end with.

    trials  where its members are tried
    """
    testbed = Testbed(job.spec.devices, trials)
    with naming_lines(job.spec):
        preflight = check(job)
    for remark in filter(None, (*preflight.facts.remarks, begins_anew_in(job, preflight))):
        print(printable(f"hpcens: note: {remark}"), file=sys.stderr)
    with naming_lines(job.spec):
        return CheckedJob(job, tried(job, preflight, testbed=testbed), testbed)


def trials_of(settings: SlurmSpec | None) -> Trials:
    """Return where members are tried, by what is asked of Slurm; None: nothing, the job stays on this host."""
    if settings is None:
        return "here"
    return "later" if settings.check_members == "job" else "elsewhere"


def start(checked: CheckedJob, way: Way[Started]) -> Started:
    """Try the job's members, warn of what looks wrong, and start it this way; return what the way returns.

    Raises what `check_members` and the way raise.
    """
    for note in notes(checked.job, checked.preflight):
        print(printable(f"hpcens: note: {note}"), file=sys.stderr)
    with naming_lines(checked.job.spec):
        warnings = check_members(checked.job, checked.preflight, testbed=checked.testbed)
    for warning in warnings:
        print(printable(f"hpcens: warning: {warning}"), file=sys.stderr)
    preflight = replace(checked.preflight, warnings=tuple(w for w in warnings if w not in checked.testbed.warnings()))
    if unsteady := unsteady_members(checked.job, preflight):
        preflight = replace(preflight, unsteady=unsteady)
    return way(checked.job, preflight)
