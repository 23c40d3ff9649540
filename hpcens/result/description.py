"""The description: what a result says of itself, as plain HDF5 attributes of the file."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from hpcens import __version__
from hpcens.config import spec_to_json
from hpcens.dataset.columns import Columns
from hpcens.dataset.source import Facts
from hpcens.result.form import Form
from hpcens.result.outputs import outputs_of
from hpcens.specs import Job, RunSpec, Space
from hpcens.vocabulary import Plan, Segmentation

Tree = Mapping[str, Any]


def members_of(spec: RunSpec, digests: Mapping[str, Mapping[str, str]]) -> dict[str, Any]:
    """Describe each member by the path of its weights and what it was made of.

    digests  member name to its digests, see `member_digests`
    """
    return {member.name: {"path": str(member.file), **digests[member.name]} for member in spec.members}


def description(
    spec: RunSpec, tree: Tree, *, members: Mapping[str, Any], datasets: Sequence[Path], library: str, **more: str
) -> dict[str, Any]:
    """Return the attributes of a result: numbers, text, and JSON where there is a structure.

    tree      fingerprint of the result
    members   see `members_of`
    datasets  files that were scored
    library   the MPI library, empty where there was none
    more      further attributes
    """
    precisions = {name: member["numerics"]["precision"] for name, member in tree["members"].items()}
    versions = {name: version(name) for name in ("numpy", "h5py")}
    return {
        "hpcens": __version__,
        "python": platform.python_version(),
        "torch": tree["numerics"]["torch"],
        **versions,
        "mpi": library,
        "datasets": [str(path) for path in datasets],
        "fingerprint": json.dumps(tree),
        "rule": spec.rule.name,
        "rule_parameters": json.dumps(tree["rule"]),
        "space": tree["rule"]["space"],
        "weights": json.dumps(tree["rule"]["weights"]),
        "spaces": json.dumps({name: member["output"] for name, member in tree["members"].items()}),
        "precision": json.dumps(precisions),
        "members": json.dumps({name: members[name] for name in spec.member_names}),
        "member_names": list(spec.member_names),
        **more,
    }


def scored_form(
    job: Job,
    *,
    facts: Facts,
    digests: Mapping[str, Mapping[str, str]],
    shape: tuple[int, ...],
    space: Space,
    tree: Tree,
    plan: Plan,
    library: str,
) -> Form:
    """Return what a job's result will look like, and say of itself.

    facts    of the dataset
    digests  of each member
    shape    of a member's output for one row
    space    in which the rule combines the members
    tree     the fingerprint under the plan
    library  the MPI library
    """
    spec = job.spec
    members = members_of(spec, digests)
    return Form(
        outputs=outputs_of(spec, shape, space),
        segmentation=Segmentation(facts.rows, plan.numerics.segment_rows),
        attributes=description(spec, tree, members=members, datasets=job.datasets, library=library),
        classes=spec.classes or (),
        documents={"plan": plan.to_json(), "config": spec_to_json(spec)},
        compression=spec.output.compression,
        columns=Columns(job.datasets, spec.dataset, job.limit).copy if spec.dataset.columns else None,
    )
