"""Job: what the options of a verb ask for."""

from __future__ import annotations

from argparse import Namespace

from hpcens.config.job import job_from
from hpcens.specs import Job


def job_of(options: Namespace) -> Job:
    """Return the job of a command line. Raises the first error in it."""
    given = vars(options)
    return job_from(
        options.dataset,
        config=options.config,
        limit=options.limit,
        plan=given.get("plan"),
        trace=given.get("trace"),
    )
