"""The fingerprint: what a result was made of, as a tree of digests; a resume compares it branch by branch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

from hpcens.errors import FingerprintMismatch, UsageError
from hpcens.specs import RunSpec, Space
from hpcens.vocabulary import Numerics

Tree = Mapping[str, Any]


def make_fingerprint(
    spec: RunSpec,
    *,
    data: Mapping[str, Any],
    members: Mapping[str, Mapping[str, str]],
    rule: Mapping[str, str],
    space: Space,
    numerics: Numerics,
) -> dict[str, Any]:
    """Make the fingerprint of a run, of plain JSON values only.

    data     identity of the dataset, see `Source.facts`
    members  member name to its digests, see `member_digests`
    rule     digests of what the rule is made of
    space    the one the rule combines in
    """
    fixed = asdict(numerics)
    return {
        "data": dict(data),
        "members": {
            member.name: {
                **members[member.name],
                "output": member.output,
                "numerics": fixed["members"].get(member.name, {}) | {"precision": member.precision},
            }
            for member in spec.members
        },
        "rule": rule_branch(spec, rule, space),
        "outputs": outputs_branch(spec),
        "numerics": {"segment_rows": numerics.segment_rows, "kinds": list(numerics.kinds), "torch": numerics.torch},
    }


def rule_branch(spec: RunSpec, digests: Mapping[str, str], space: Space) -> dict[str, Any]:
    """Return the branch of what combines the members. digests: of what the rule is made of."""
    return {
        "name": spec.rule.name,
        "space": space,
        "weights": {member.name: member.weight for member in spec.members},
        "trim": spec.rule.trim,
        "digests": dict(digests),
    }


def outputs_branch(spec: RunSpec) -> dict[str, Any]:
    """Return the branch of what the result holds. Its compression is no part of it: it changes no number."""
    return {
        "datasets": list(spec.output.datasets),
        "dtype": spec.output.dtype,
        "classes": list(spec.classes or ()),
        "bad_rows": spec.bad_rows,
    }


def numerics_of(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Return the numerics that a fingerprint holds."""
    return {**tree["numerics"], "members": {n: m["numerics"] for n, m in tree["members"].items()}}


def torch_version() -> str:
    """Return the version of the installed torch, without importing it. Raises UsageError where there is none."""
    try:
        return version("torch")
    except ModuleNotFoundError:
        raise UsageError("torch is not installed", "pip install torch, or load your site's module") from None


def differences(old: Tree, new: Tree, path: str = "") -> Iterator[str]:
    """Yield one line for each place where the trees differ."""
    for key in [*old, *(key for key in new if key not in old)]:
        place = f"{path}.{key}" if path else key
        before, after = old.get(key), new.get(key)
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            yield from differences(before, after, place)
        elif before != after:
            yield f"{place}: {_shown(before)} then, {_shown(after)} now"


def _shown(value: object) -> str:
    text = "absent" if value is None else str(value)
    return text if len(text) <= 60 else f"{text[:57]}…"


def require_same(old: Tree, new: Tree, where: str) -> None:
    """Raise FingerprintMismatch with every difference. where: what the old tree was found in, for the message."""
    lines = list(differences(old, new))
    if lines:
        raise FingerprintMismatch(
            f"{where} was made of something else:\n  " + "\n  ".join(lines),
            "score into another output (output.path), or remove the old result and its run directory",
        )
