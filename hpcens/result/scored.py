"""Say what a job's result will look like, before any of it is scored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hpcens.config import spec_to_json
from hpcens.dataset import Columns, Facts
from hpcens.result.description import describe_result, members_of
from hpcens.result.form import Form
from hpcens.result.keeping import keeping_of
from hpcens.result.outputs import outputs_of
from hpcens.specs import Job, Space
from hpcens.vocabulary import Plan, Segmentation


def scored_form(
    job: Job,
    *,
    facts: Facts,
    digests: Mapping[str, Mapping[str, str]],
    shape: tuple[int, ...],
    space: Space,
    tree: Mapping[str, Any],
    plan: Plan,
    library: str,
    unsteady: Mapping[str, Any] | None = None,
    warnings: Sequence[str] = (),
) -> Form:
    """Return what a job's result will look like, and say of itself.

    facts    of the dataset
    digests  of each member
    shape    of a member's output for one row
    space    in which the rule combines the members
    tree     the fingerprint under the plan
    library  the MPI library
    unsteady member → what of its outputs is not the same each time, or in each batch
    warnings what looked wrong of the members before they were scored
    """
    spec = job.spec
    members = members_of(spec, digests)
    outputs = outputs_of(spec, shape, space)
    columns = Columns(job.datasets, spec.dataset, job.limit, facts.identity)
    return Form(
        outputs=outputs,
        segmentation=Segmentation(facts.rows, plan.numerics.segment_rows, *(job.segments or ())),
        attributes=describe_result(
            spec, tree, members=members, datasets=job.datasets, library=library, unsteady=unsteady, warnings=warnings
        ),
        classes=spec.classes or (),
        documents={"plan": plan.to_json(), "config": spec_to_json(spec)},
        compression=spec.output.compression if job.segments is None else None,
        columns=columns.copy if spec.dataset.columns and job.segments is None else None,
        columns_of=columns.copy_rows if spec.dataset.columns else None,
        keep=keeping_of(spec, outputs),
    )
