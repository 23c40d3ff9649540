"""What a calibration was fitted to, and whether that is what it is applied to: members, rule and classes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from hpcens.errors import FingerprintMismatch
from hpcens.result.fingerprint import Tree, in_format
from hpcens.result.mismatch import differences
from hpcens.specs import RunSpec

Unknown = Callable[[str, str], bool]


def calibrated_of(tree: Tree) -> dict[str, Any]:
    """Return the branches of a fingerprint that a calibration depends on.

    Rows and batch sizes are not among them: it is fitted on some rows to be applied to others.
    """
    members = {
        name: {part: value for part, value in {**member, "precision": _precision(member)}.items() if part != "numerics"}
        for name, member in tree["members"].items()
    }
    rule = {part: value for part, value in tree["rule"].items() if part != "calibration"}
    whole = in_format({"members": members, "rule": rule})
    return {"members": whole["members"], "rule": whole["rule"], "classes": list(tree["outputs"]["classes"])}


def _precision(member: Mapping[str, Any]) -> Any:
    return member["numerics"]["precision"] if "numerics" in member else member["precision"]


def require_fitting(spec: RunSpec, tree: Tree, unknown: Unknown | None = None) -> None:
    """Raise FingerprintMismatch where a calibration was fitted to other members, another rule or other classes.

    tree     with the branches `members`, `rule` and `outputs` of the fingerprint of what it is applied to
    unknown  takes a member's name, "" for the rule, and a part of its digests; says whether that is not known yet
    """
    if spec.calibration is None:
        return
    then, now = (_known(tree, unknown) for tree in (spec.calibration.made_of, calibrated_of(tree)))
    if lines := [*differences(then, now)]:
        raise FingerprintMismatch(
            f"{spec.calibration.path} was fitted to something else:\n  " + "\n  ".join(lines),
            "fit it to these members under this rule (hpcens calibrate), or write calibration: false",
        )


def _known(branches: Tree, unknown: Unknown | None) -> Tree:
    if unknown is None:
        return branches

    def known(name: str, digests: Tree) -> dict[str, Any]:
        return {part: digest for part, digest in digests.items() if not unknown(name, part)}

    members = {name: known(name, member) for name, member in branches.get("members", {}).items()}
    rule = dict(branches.get("rule", {}))
    return {**branches, "members": members, "rule": rule | {"digests": known("", rule.get("digests", {}))}}
