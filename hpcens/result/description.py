"""The description: what a result says of itself, as plain HDF5 attributes of the file."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from hpcens import __version__
from hpcens.specs import RunSpec

Tree = Mapping[str, Any]


def members_of(spec: RunSpec, digests: Mapping[str, Mapping[str, str]]) -> dict[str, Any]:
    """Each member with the path of its weights and what it was made of."""
    return {member.name: {"path": str(member.file), **digests[member.name]} for member in spec.members}


def description(
    spec: RunSpec, tree: Tree, *, members: Mapping[str, Any], datasets: Sequence[Path], library: str, **more: str
) -> dict[str, Any]:
    """Numbers, text, and JSON where there is a structure.

    tree     the fingerprint
    members  see `members_of`
    library  the MPI library, empty where there was none
    more     further attributes
    """
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
        "spaces": json.dumps({name: of["output"] for name, of in tree["members"].items()}),
        "precision": json.dumps({name: of["numerics"]["precision"] for name, of in tree["members"].items()}),
        "members": json.dumps({name: members[name] for name in spec.member_names}),
        "member_names": list(spec.member_names),
        **more,
    }
