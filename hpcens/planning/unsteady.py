"""Say of which members the outputs are not the same each time, or in each batch: what trials and profiles found."""

from __future__ import annotations

from typing import Any

from hpcens.checks.preflight import Preflight
from hpcens.profiling import ProfileBook, group_key, profile_key
from hpcens.result import Finished, unsteady_of
from hpcens.specs import Job
from hpcens.vocabulary import Plan
from hpcens.vocabulary.groups import groups_of


def unsteady_outputs(job: Job, preflight: Preflight, book: ProfileBook, plan: Plan) -> dict[str, dict[str, Any]]:
    """Return member → what the result says of its outputs, see `Steadiness.faults`; of steady members nothing.

    book  in which the plan's profiles are
    Of members whose outputs are stored, what the result that holds them says.
    """
    found: dict[str, dict[str, Any]] = {name: dict(faults) for name, faults in preflight.unsteady.items()}
    groups = groups_of(plan.numerics.members)
    for member in job.spec.members:
        numerics = plan.numerics.members.get(member.name)
        if numerics is None or member.name in preflight.stored:
            continue
        for kind in plan.numerics.kinds:
            grouped = [m for m in job.spec.members if m.name in groups.get(numerics.group, ())]
            key = profile_key(preflight, member, kind, numerics.runtime)
            profile = book.get(group_key(preflight, grouped, kind) if grouped else key)
            if profile is not None and not profile.same_bits:
                found.setdefault(member.name, {})["reproducible"] = False
    if preflight.stored:
        result = Finished(job.output)
        found |= unsteady_of(result.attributes, preflight.stored)
        result.close()
    return found
