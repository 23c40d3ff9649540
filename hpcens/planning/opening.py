"""Open a start: what its ranks do together between their roles and the first batch.

    measure what is missing → survey I/O → plan → fix the fingerprint → form the phases → Assignment

`open_start` alone does collectives, the same on every rank; what rank 0 decides between them is in `lead`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from hpcens.checks.preflight import Preflight
from hpcens.planning.phases import Assignment
from hpcens.profiling import MissingRates, ProfileBook, measure_on, survey_io
from hpcens.roles import Hello, RankRoles
from hpcens.runs import Epoch, Events, RunDirectory
from hpcens.specs import Job

if TYPE_CHECKING:
    from hpcens.transports.mpi import MpiWorld


def open_start(
    world: MpiWorld,
    run: RunDirectory,
    epoch: Epoch,
    job: Job,
    preflight: Preflight,
    rank_roles: RankRoles,
    hellos: Sequence[Hello],
    events: Events | None,
    *,
    only_profile: bool,
    release: Callable[[], None] = lambda: None,
) -> Assignment | None:
    """Do all that comes before the first batch; every rank calls it.

    hellos  by which the roles were assigned; empty elsewhere than at rank 0
    events  of this start, at rank 0 alone
    release lets go of what this rank's device holds, for what is measured there
    Returns what rank 0 decided, the same on every rank; None where only profiles were wanted.
    """
    lead = None
    if events is not None:
        from hpcens.planning.job_planner import JobPlanner  # rank 0 alone: a start takes as long as its ranks import
        from hpcens.planning.lead import Lead

        planner = JobPlanner(job, preflight, ProfileBook.default())
        lead = Lead(job, preflight, planner, run, epoch, rank_roles, hellos, events, world.work)
    wanted = lead.missing() if lead is not None else None
    missing: MissingRates = world.broadcast(wanted.without_rows if wanted is not None else None)
    if missing.measurements:
        rows = None if wanted is None else (wanted.rows, wanted.others)
        missing = missing.with_rows(world.broadcast(rows, to=sorted(missing.measurements)))
    own = missing.measurements.get(world.rank, ())
    if own:
        world.work(release)
    measured = world.gather(
        world.work(
            partial(measure_on, rank_roles.devices[world.rank], own, missing.rows, missing.others, job, preflight)
        )
        if own
        else []
    )
    survey = None if only_profile else survey_io(world, rank_roles.farthest, missing.readers, job)
    assignment = None
    if lead is not None:
        lead.keep_profiles(pair for pairs in measured for pair in pairs)
        if survey is not None:
            assignment = lead.decide(survey)
    if only_profile:
        return None
    answer: Assignment = world.broadcast(assignment and replace(assignment, rows=()))
    sample = world.broadcast(assignment and assignment.rows, to=sorted(answer.rank_roles.devices))
    return replace(answer, rows=sample) if world.rank in answer.rank_roles.devices else answer
