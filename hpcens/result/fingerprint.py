"""The fingerprint: what a result was made of, as a tree of digests; a resume compares it branch by branch.

Format 2 adds keys, those of `FORMAT_2`. A key that means what format 1 meant is left out, and where none is left the
tree is one of format 1, so that results of earlier code are continued by whoever did not change what they mean.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import Any

from hpcens.errors import UsageError
from hpcens.files import MALFORMED
from hpcens.specs import Calibration, MemberSpec, RunSpec, Space, described_cascade, described_rows
from hpcens.vocabulary import Numerics, numerics_from_dict

Tree = Mapping[str, Any]
Place = tuple[str, ...]
_NUMBER = re.compile(r"\[\d+\]")


@dataclass(frozen=True, slots=True)
class AddedKey:
    """A field of the tree that format 1 does not have.

    place  where it stands: the names on the way to it; `*` stands for any name or any end of a name, `[]` for any
           number in brackets
    old    its value where it means what format 1 meant; it is left out then. None: it always is in, if it is there
    write  what restores that meaning in the YAML, its key named: "class_axis: -1"; empty where nothing does
    """

    place: Place
    old: Any
    write: str

    def stands_at(self, place: Place) -> bool:
        """Tell whether a place of a tree is this field's."""
        pairs = zip(self.place, place, strict=False)
        return len(place) == len(self.place) and all(_fits(pattern, name) for pattern, name in pairs)


def _fits(pattern: str, name: str) -> bool:
    begins = pattern.endswith("*") and name.startswith(pattern[:-1])
    return begins or pattern in (name, _NUMBER.sub("[]", name))


FORMAT_2: tuple[AddedKey, ...] = (
    AddedKey(
        ("members", "*", "resize of preprocess[]"),
        None,
        "members[].preprocess[].resize with mode: bilinear, antialias: false",
    ),
    AddedKey(("data", "files", "*", "decode *"), None, "dataset.inputs.*.decode: false"),
    AddedKey(("members", "*", "bad_rows"), None, "no members[].bad_rows"),
    AddedKey(("members", "*", "gradients"), None, "no members[].gradients"),
    AddedKey(("members", "*", "passes"), None, "no members[].passes"),
    AddedKey(("members", "*", "rows"), None, "no members[].rows"),
    AddedKey(("members", "*", "views[]"), None, "no members[].views"),
    AddedKey(("members", "*", "space of views"), None, "no members[].views"),
    AddedKey(("members", "*", "code of views*"), None, "no members[].views"),
    AddedKey(("members", "*", "features *"), None, "no members[].features"),
    AddedKey(("members", "*", "file *"), None, "no members[].files"),
    AddedKey(("members", "*", "key of weights"), None, "no members[].weights.key"),
    AddedKey(("members", "*", "prefix of weights"), None, "no members[].weights.prefix"),
    AddedKey(("members", "*", "state"), None, "a file under members[].weights"),
    AddedKey(("members", "*", "complex numbers"), None, ""),
    AddedKey(("members", "*", "imports *"), None, ""),
    AddedKey(("members", "*", "library *"), None, ""),
    AddedKey(("rule", "digests", "precision"), "float32", "rule.precision: float32"),
    AddedKey(("rule", "digests", "imports *"), None, ""),
    AddedKey(("rule", "digests", "library *"), None, ""),
    AddedKey(("members", "*", "class_axis"), None, "no class_axis, or class_axis: -1"),
    AddedKey(("members", "*", "task"), None, "task: multiclass"),
    AddedKey(("rule", "normalize"), False, "rule.normalize: false"),
    AddedKey(("rule", "calibration"), None, "calibration: false"),
    AddedKey(("rule", "cascade"), None, "no cascade"),
    AddedKey(("outputs", "keep"), None, "no output.keep"),
    AddedKey(("numerics", "libraries"), None, ""),
    AddedKey(("members", "*", "numerics", "group"), "", ""),
)
"""All keys that format 2 adds. Whoever builds a branch writes their expanded values; `in_format` leaves out the old."""


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
    return in_format(
        {
            "data": dict(data),
            "members": {
                member.name: {
                    **members[member.name],
                    "output": member.output,
                    "numerics": _own_numerics(member, fixed["members"].get(member.name, {})),
                }
                for member in spec.members
            },
            "rule": rule_branch(spec, rule, space),
            "outputs": outputs_branch(spec),
            "numerics": {
                "segment_rows": numerics.segment_rows,
                "kinds": list(numerics.kinds),
                "torch": numerics.torch,
                **({"libraries": dict(numerics.libraries)} if numerics.libraries else {}),
            },
        }
    )


def _own_numerics(member: MemberSpec, fixed: Tree) -> dict[str, Any]:
    """Return the numerics of a member, with its precision: as it was fixed, where the YAML leaves it open."""
    left_open = member.precision == "auto" and "precision" in fixed
    return {**fixed, "precision": fixed["precision"] if left_open else member.computes_in}


def in_format(tree: Tree) -> dict[str, Any]:
    """Return the tree without the added keys that mean what format 1 meant; `format: 2` is in it if one is left."""
    left: list[Place] = []
    whole = _without_old({name: branch for name, branch in tree.items() if name != "format"}, (), left)
    return whole | ({"format": 2} if left else {})


def _without_old(branch: Tree, place: Place, left: list[Place]) -> dict[str, Any]:
    """Leave out added keys at their old meanings. left: takes the places of those that stay."""
    kept: dict[str, Any] = {}
    for name, value in branch.items():
        here = (*place, name)
        added = added_key(here)
        if added is not None and value == added.old:
            continue
        if added is not None:
            left.append(here)
        kept[name] = _without_old(value, here, left) if isinstance(value, Mapping) else value
    return kept


def added_key(place: Place) -> AddedKey | None:
    """Return the added key that stands at a place of a tree; None where none does."""
    return next((key for key in FORMAT_2 if key.stands_at(place)), None)


def rule_branch(spec: RunSpec, digests: Mapping[str, str], space: Space) -> dict[str, Any]:
    """Return the branch of what combines the members. digests: of what the rule is made of."""
    return {
        "name": spec.rule.name,
        "space": space,
        "weights": {member.name: member.weight for member in spec.members},
        "trim": spec.rule.trim,
        "normalize": spec.rule.normalize,
        "digests": dict(digests),
        "calibration": _applied(spec.calibration),
        "cascade": described_cascade(spec.cascade),
    }


def _applied(calibration: Calibration | None) -> dict[str, Any] | None:
    """Return what a calibration comes to."""
    if calibration is None:
        return None
    return {
        "temperature": calibration.temperature,
        "coverage": calibration.coverage,
        "digest": calibration.digest,
    }


def outputs_branch(spec: RunSpec) -> dict[str, Any]:
    """Return the branch of what the result holds. Its compression is no part of it: it changes no number."""
    return {
        "datasets": list(spec.output.datasets),
        "dtype": spec.output.dtype,
        "classes": list(spec.classes or ()),
        "bad_rows": spec.bad_rows,
        "keep": None if spec.output.keep is None else asdict(spec.output.keep),
    }


def made_of_but_data(
    spec: RunSpec,
    members: Mapping[str, Mapping[str, str]],
    rule: Mapping[str, str],
    space: Space,
    limit: int | None,
) -> dict[str, str]:
    """Return what results of many datasets share: all that they are made of but rows and numerics, name → digest.

    members, rule, space  see `make_fingerprint`
    limit                 rows that are scored of each; None: all
    """
    made_of = {
        f"member {member.name}: {part}": digest
        for member in spec.members
        for part, digest in {
            **members[member.name],
            "output": member.output,
            "precision": "auto" if member.precision == "auto" else member.computes_in,
            **({"rows": described_rows(member.rows)} if member.rows else {}),  # which differ from dataset to dataset
        }.items()
    }
    branches = {
        "the rule": rule_branch(spec, rule, space),
        "outputs": outputs_branch(spec),
        "dataset": {key: value for key, value in asdict(spec.dataset).items() if key != "route" or value},
        "--limit": limit,
    }
    return made_of | {name: json.dumps(branch, sort_keys=True, default=str) for name, branch in branches.items()}


def is_whole(tree: Any) -> bool:
    """Return whether this is a fingerprint: with all its branches, and numerics in them that can be used."""
    try:
        numerics_from_dict(numerics_of(tree))
    except MALFORMED:
        return False
    return all(isinstance(tree.get(branch), dict) for branch in ("data", "rule", "outputs"))


def keeps_classes(before: Tree, now: Tree) -> bool:
    """Tell whether what a result stores of members is in the classes that it is to have now.

    Names may change where they only are names: not where a member's own classes were brought to them.

    before  fingerprint of the result
    now     fingerprint, or its branches, of what is to be made with its members
    """
    brought = any("classes" in member for member in before["members"].values())
    same: bool = before["outputs"]["classes"] == now["outputs"]["classes"]
    return same or not brought


def numerics_of(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Return the numerics that a fingerprint holds."""
    return {**tree["numerics"], "members": {n: m["numerics"] for n, m in tree["members"].items()}}


def rounded_members(tree: Mapping[str, Any], names: Iterable[str]) -> list[str]:
    """Return those of the members whose outputs a result holds in a narrower dtype than they gave."""
    dtype = tree["outputs"]["dtype"]
    wide = {n for n in names if tree["members"][n]["numerics"]["precision"] == "float64"}
    return [n for n in names if dtype != "float64" and (n in wide or dtype != "float32")]


def torch_version() -> str:
    """Return the version of the installed torch, without importing it. Raises UsageError where there is none."""
    try:
        return version("torch")
    except ModuleNotFoundError:
        raise UsageError("torch is not installed", "pip install torch, or load your site's module") from None
