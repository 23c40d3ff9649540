"""Three tables that must agree: specs, keys, template."""

from __future__ import annotations

import dataclasses
import re
import typing
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.calibrations import written
from support.configuration import loaded

from hpcens import config
from hpcens.config.keys import KEYS
from hpcens.specs import (
    SOURCES,
    MemberSpec,
    RunSpec,
)

# The three tables that must agree: specs, keys, template


def fields(kind: Any, place: str = "") -> dict[str, object]:
    """Every key a user may write under this spec, with its default."""
    found: dict[str, object] = {}
    hints = typing.get_type_hints(kind)
    for field in dataclasses.fields(kind):
        inner = [hints[field.name], *typing.get_args(hints[field.name])]
        specs = [one for one in inner if dataclasses.is_dataclass(one)]
        several = {tuple: "[]", dict: "{}"}.get(typing.get_origin(hints[field.name]), "")
        here = f"{place}{field.name}"
        found[here] = field.default
        for spec in specs:
            found |= fields(spec, f"{here}{several}.")
    return found


SETTABLE = fields(RunSpec)
del SETTABLE["search_path"], SETTABLE["assumed"]
for key in [key for key in SETTABLE if key.startswith("members[].featuriser")]:
    del SETTABLE[key]  # what config puts beside the name
for key in [key for key in SETTABLE if key.startswith("calibration.") and key != "calibration.path"]:
    del SETTABLE[key]  # what its file says


def test_the_table_of_keys_is_that_of_the_specs() -> None:
    assert {key for key in KEYS if not key.endswith(("]", "}"))} == set(SETTABLE)


def around(pattern: str) -> dict[str, Any]:
    """A tree in which an example of the key has its place."""
    source = pattern.partition("[].")[2]
    member: dict[str, Any] = {"name": "a", "factory": "m:b", "weights": "w"}
    if source in SOURCES[1:]:
        member = {"name": "a"} | ({"trust": "pickle"} if source == "pickled" else {})
    elif source.startswith("weights."):
        member["weights"] = {"path": "w"}
    elif source.startswith("preprocess[]."):
        triple = [1.0] if pattern.endswith("[]") else [1.0, 1.0, 1.0]
        steps = {
            "crop": {"crop": [1, 1]},
            "resize": {"resize": {"size": [1, 1]}},
            "input": {"scale": 2.0},
            "normalize": {"normalize": {"mean": triple, "std": triple}},
        }
        member["preprocess"] = [steps.get(source.split(".")[1].removesuffix("[]"), {})]
    elif source.startswith("views."):
        member["views"] = {"apply": [{"call": "m:f"}]}
    tree: dict[str, Any] = {
        "members": [member],
        "classes": ["cat", "dog"],
        "devices": {"cpu": {"count": 1}, "cuda": {"count": 1}},
        "rule": {"name": "weighted" if pattern.endswith(".weight") else "mean"},
        "output": {"compression": {"name": "gzip"}},
    }
    if pattern == "plan.precision_tolerance":
        member["precision"] = "auto"
    elif pattern.startswith("features") or pattern == "members[].features":
        name = "aev" if pattern in ("features", "members[].features") else "x"
        made: dict[str, Any] = {"factory": "m:f"}
        if ".weights." in pattern or pattern == "features{}.trust[]":
            made["weights"] = {"path": "w"}
        if pattern.endswith("{}.trust"):
            made["weights"] = "w"
        if ".preprocess[]." in pattern:
            made["preprocess"] = around("members[]" + pattern.removeprefix("features{}"))["members"][0]["preprocess"]
        tree["features"] = {name: made}
        member["features"] = name
    elif pattern == "rule.trim":
        tree["members"] = [member | {"name": f"m{i}"} for i in range(5)]
        tree["rule"] = {"name": "trimmed"}
    elif pattern == "rule.normalize":
        tree["rule"] = {"name": "median"}
    elif pattern in ("rule.factory", "rule.arguments", "rule.weights", "rule.output", "rule.precision"):
        tree["rule"] = {"name": "stack", "factory": "m:s", "weights": "s"}
    elif pattern.startswith("dataset.inputs{}."):
        tree["dataset"] = {"inputs": {"x": {"path": "t"}}}
    elif pattern.startswith("members[].rows"):
        tree["dataset"] = {"route": {"x" if pattern.endswith("{}") else "fold": "folds"}}
    elif pattern == "members[].passes.seed":
        member["passes"] = {"count": 20}
    elif pattern.startswith("dataset.route"):
        member["rows"] = {"x" if pattern.endswith("{}") else "fold": 3}
    elif pattern.startswith("output.keep"):
        tree["classes"] = ["active", "idle"]
        if pattern == "output.keep.by":
            tree["output"]["keep"] = {"top": 3}
    elif pattern.startswith("cascade"):
        tree["members"] = [member | {"name": name} for name in "abcd"]
        own = ["a"] if pattern == "cascade[].members[]" else ["a", "b"]
        accept = {"entropy": {"below": 0.1}}
        others = [name for name in "abcd" if name not in own]
        tree["cascade"] = [{"members": own, "accept": accept}, {"members": others}]
    elif pattern.startswith("cluster{}"):
        tree["cluster"] = {"x": {"nodes": 1, "kind": "k", "devices": 1, "memory": 1}}
    return tree


NAMED = ("members[]", "output.keep.by{}", *(key for key in KEYS if key.startswith("cascade[].accept{}")))


@pytest.mark.parametrize("pattern", [key for key in KEYS if key not in NAMED])
def test_every_example_in_a_remedy_is_right(file: Path, pattern: str) -> None:
    tree = around(pattern)
    written(file.with_name("calibration.json"))
    keys = pattern.replace("[]", ".0").replace("{}", ".x").split(".")
    at: Any = tree
    for key, deeper in pairwise(keys):
        at = at[0] if isinstance(at, list) else at.setdefault(key, [None] if deeper == "0" else {})
    example = yaml.safe_load(KEYS[pattern].example)
    if keys == ["classes", "0"]:
        tree["classes"] = [example, "dog"]
    else:
        at[0 if keys[-1] == "0" else keys[-1]] = example
    loaded(file, yaml.safe_dump(tree))


def test_the_template_loads_and_states_the_defaults(file: Path) -> None:
    spec = loaded(file, config.template())
    default = RunSpec(members=spec.members, task="multiclass", search_path=file.parent)
    assert spec == default
    assert all(
        member == MemberSpec(name=member.name, factory="models:build", weights=member.weights)
        for member in spec.members
    )


def keys(value: Any, place: str = "") -> set[str]:
    """Every key of a tree, by its pattern."""
    if place in (".features", ".dataset.inputs", ".dataset.route", ".members[].rows", ".cluster", ".cascade[].accept"):
        return {p for inner in value.values() for p in keys(inner, f"{place}{{}}")}
    if isinstance(value, dict):
        return {f"{place}.{k}" for k in value} | {p for k, v in value.items() for p in keys(v, f"{place}.{k}")}
    return {p for item in value for p in keys(item, f"{place}[]")} if isinstance(value, list) else set()


STEP = "features{}.preprocess[].scale"  # the others are written out under members


def featured(tree: dict[str, Any]) -> dict[str, Any]:
    """The features of the template with their member."""
    second = {key: value for key, value in tree["members"][1].items() if key != "weight"}
    first = {"name": "a", "onnx": "o"}
    inputs = {"inputs": {"images": "data/images"}}
    member = {**second, "features": tree["members"][0]["features"]}
    return {"members": [first, member], "features": tree["features"], "dataset": inputs}


def test_the_template_holds_every_key_once_uncommented(file: Path) -> None:
    head, _, rest = config.template().partition("\nmembers:")
    text = re.sub(r"(?m)^( *)# ( *(?:- \{)?[-\w]+:)", r"\1\2", "members:" + rest).replace(
        "name: mean", "name: weighted"
    )
    written(file.with_name("calibration.json"))
    tree = yaml.safe_load(text.replace("weights: weights/second", "weight: 1\n    weights: weights/second"))
    assert "is required" in head

    own = {key.removeprefix(".") for key in keys(tree) if not re.search(r"\.(arguments|srun|by)\.", key)}
    assert own == {key for key in SETTABLE if key == STEP or not key.startswith("features{}.preprocess[]")}
    assert loaded(file, yaml.safe_dump(featured(tree))).members[1].featuriser is not None
    del tree["features"], tree["members"][0]["features"]  # beside preprocess, it is refused
    del tree["dataset"]["input"], tree["dataset"]["select"]["path"], tree["output"]["keep"]["above"]  # of two ways one
    del tree["plan"]["precision_tolerance"]  # is for precision: auto
    views = tree["members"][0].pop("views")  # beside gradients, it is refused
    [seen] = loaded(file, yaml.safe_dump({"members": [{"name": "a", "onnx": "o", "views": views}]})).members
    assert seen.views is not None and [view.call for view in seen.views.apply] == [
        "identity",
        "hflip",
        "models:shifted",
    ]
    cascade = tree.pop("cascade")  # not for stack, nor for other members
    others = [key for key in SOURCES if key != "factory"]
    first, second = tree["members"]
    for source in others:
        member = {"name": "a", source: first[source]} | ({"trust": first["trust"]} if source == "pickled" else {})
        assert loaded(file, yaml.safe_dump({"members": [member]})).members[0].source == source
    pair = [{key: value for key, value in first.items() if key not in others}, second]
    for name, own in {"trimmed": {"trim"}, "stack": {"factory", "arguments", "weights", "output", "precision"}}.items():
        left = {key: value for key, value in tree["rule"].items() if key in own or key == "space"}
        others = ("weight", "rows") if name == "stack" else ("weight",)
        members = [{k: v for k, v in m.items() if k not in others} | {"name": f"m{i}"} for i, m in enumerate(3 * pair)]
        dataset = {key: value for key, value in tree["dataset"].items() if key != "route" or "rows" not in others}
        loaded(file, yaml.safe_dump(tree | {"rule": left | {"name": name}, "members": members, "dataset": dataset}))
    left = {key: value for key, value in tree["rule"].items() if key == "space"} | {"name": "weighted"}
    spec = loaded(file, yaml.safe_dump(tree | {"rule": left, "members": pair, "cascade": cascade}))
    assert [stage.members for stage in spec.cascade] == [("first",), ("second",)]
    assert spec.members[0].weight == 0.5 and spec.members[0].trust == ("pickle",)
    assert spec.members[0].rows == {"fold": (3,)} and spec.dataset.route == {"fold": "data/fold"}
    steps = ["cast", "layout", "scale", "resize", "resize", "crop", "normalize", "call"]
    assert [step.kind for step in spec.members[0].preprocess] == steps
