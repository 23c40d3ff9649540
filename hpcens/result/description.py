"""The description: what a result says of itself, as plain HDF5 attributes of the file."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Collection, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from hpcens import __version__
from hpcens.specs import Calibration, KeepSpec, RunSpec

Tree = Mapping[str, Any]


def members_of(spec: RunSpec, digests: Mapping[str, Mapping[str, str]]) -> dict[str, Any]:
    """Describe each member by the path of its weights and what it was made of.

    digests  member name to its digests, see `member_digests`
    """
    paths = {member.name: "" if member.loads_itself else str(member.file) for member in spec.members}
    return {member.name: {"path": paths[member.name], **digests[member.name]} for member in spec.members}


def unsteady_of(attributes: Mapping[str, Any], members: Collection[str]) -> dict[str, Any]:
    """Return what a result says of those of these members that are not steady, from its attributes."""
    unsteady = json.loads(attributes.get("unsteady", "{}"))
    return {member: faults for member, faults in unsteady.items() if member in members}


def describe_result(
    spec: RunSpec,
    tree: Tree,
    *,
    members: Mapping[str, Any],
    datasets: Sequence[Path],
    library: str,
    unsteady: Mapping[str, Any] | None = None,
    warnings: Sequence[str] = (),
    **more: str,
) -> dict[str, Any]:
    """Return the attributes of a result: numbers, text, and JSON where there is a structure.

    tree      fingerprint of the result
    members   see `members_of`
    datasets  files that were scored
    library   the MPI library, empty where there was none
    unsteady  member → what of its outputs is not the same each time, or in each batch; said where there is any
    warnings  what looked wrong of the members before they were scored; said where anything did
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
        "datasets": [os.fsencode(path).decode(errors="backslashreplace") for path in datasets],
        "fingerprint": json.dumps(tree),
        "rule": spec.rule.name,
        "rule_parameters": json.dumps(tree["rule"]),
        "space": tree["rule"]["space"],
        "task": spec.task or "",
        "weights": json.dumps(tree["rule"]["weights"]),
        "spaces": json.dumps({name: member["output"] for name, member in tree["members"].items()}),
        "precision": json.dumps(precisions),
        "members": json.dumps({name: members[name] for name in spec.member_names}),
        "member_names": list(spec.member_names),
        **({"passes": json.dumps(passes)} if (passes := _passes(tree)) else {}),
        **({"unsteady": json.dumps(unsteady)} if unsteady else {}),
        **({"keep": _keep(spec.output.keep, tree)} if spec.output.keep is not None else {}),
        **({"calibration": _calibration(spec.calibration)} if spec.calibration is not None else {}),
        **({"warnings": json.dumps(list(warnings))} if warnings else {}),
        **more,
    }


def _passes(tree: Tree) -> dict[str, Any]:
    """Return `count` and `seed` of each member that was run in passes."""
    return {name: json.loads(member["passes"]) for name, member in tree["members"].items() if "passes" in member}


def _calibration(calibration: Calibration) -> str:
    """Return what a result says of its calibration; to what it was fitted is in the configuration that it keeps."""
    content = {key: value for key, value in calibration.content.items() if key != "made_of"}
    path = os.fsencode(calibration.path).decode(errors="backslashreplace")
    return json.dumps({"path": path, "digest": calibration.digest, **content})


def _keep(keep: KeepSpec, tree: Tree) -> str:
    """Return which rows a result holds, and of how many."""
    return json.dumps({**tree["outputs"]["keep"], "of": tree["data"]["rows"], "what": keep.described})
