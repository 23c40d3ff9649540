"""Features: what must hold of featurisers and of the members that are called with their output, in one YAML."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from hpcens.config.document import Page, Place, shown
from hpcens.config.keys import example
from hpcens.config.rule_checks import Parts
from hpcens.config.step_checks import expand_steps
from hpcens.shell import listed
from hpcens.specs import FeaturesSpec, MemberSpec

_NOT_BESIDE = {
    "preprocess": "prepares the dataset's inputs, and features stands between them and the member",
    "gradients": "is for members that take gradients in their forward, and features are computed without autograd",
    "views": "are of what a row looks like, and features stands between the row and the member",
}
_REMEDY = {
    "preprocess": "write it under features.{}, or into the member's forward",
    "gradients": "remove it, or give the member a factory that computes its features itself",
    "views": "remove them, or give the member a factory that computes its features itself",
}


def expand_features(page: Page, tree: dict[str, Any]) -> None:
    """Write the shorthands of featurisers out, in place."""
    features = tree.get("features")
    if not isinstance(features, dict):
        return
    for name, made in features.items():
        if isinstance(made, str) and ":" in made:
            features[name] = made = {"factory": made}
        if not isinstance(made, dict):
            continue
        for key in [key for key, value in made.items() if value is None]:
            del made[key]
        for key in ("inputs", "trust", "files"):
            if isinstance(made.get(key), str):
                made[key] = [made[key]]
        weights = made.get("weights")
        if weights == "factory":
            del made["weights"]
        elif weights == "":
            page.refuse(("features", name, "weights"), f"must not be empty; {example(('features', name, 'weights'))}")
        elif isinstance(weights, str):
            made["weights"] = {"path": weights}
        elif isinstance(weights, dict) and weights.get("path") is None:
            place: Place = ("features", name, "weights", "path")
            page.refuse(place, f"is missing; {example(place)}")
        if isinstance(made.get("weights"), dict) and isinstance(made["weights"].get("ignore"), str):
            made["weights"]["ignore"] = [made["weights"]["ignore"]]
        expand_steps(page, ("features", name, "preprocess"), made.get("preprocess"))


def check_features(parts: Parts) -> None:
    """Check that members name featurisers there are, with nothing beside that features exclude, and each is used."""
    page, features = parts.page, parts.at("features") or {}
    used = parts.of_members("features")
    for i, name in used.items():
        place: Place = ("members", i, "features")
        if place in page.refused or not isinstance(name, str):
            continue
        if name not in features:
            there = f"there are {listed(list(features))}" if features else "which has none"
            page.problem(
                place, f"{shown(name)} is not under features: at the top level; {there}: add it, or correct it"
            )
            continue
        for key, why in _NOT_BESIDE.items():
            if parts.at("members", i, key):
                page.problem(("members", i, key), f"{why}; {_REMEDY[key].format(name)}")
        computed = parts.at("features", name, "precision") or "float32"
        if parts.at("members", i, "precision") == "float64" and computed != "float64":
            what = f"is float64, and its features are computed in {computed}"
            page.problem(("members", i, "precision"), f"{what}; write features.{name}.precision: float64, or remove it")
    for name in features:
        if name not in used.values() and ("features", name) not in page.refused:
            page.problem(
                ("features", name), f"no member is called with it; write features: {name} in one, or remove it"
            )
        _check_files(page, parts, str(name))


def _check_files(page: Page, parts: Parts, name: str) -> None:
    trust = parts.at("features", name, "trust") or ()
    if "file_access" in trust:
        page.problem(("features", name, "trust"), "file_access is for graphs, and a factory is none; remove it")
    if "pickle" in trust and not parts.at("features", name, "weights"):
        page.problem(("features", name, "trust"), "is for a file, and no weights name one; remove it")


def with_paths(made: FeaturesSpec, folder: Path) -> FeaturesSpec:
    """Return the featuriser with its files' paths made absolute."""
    weights = made.weights
    if weights is not None and weights.path is not None:
        weights = replace(weights, path=folder / os.path.expanduser(weights.path))
    return replace(made, weights=weights, files=tuple(folder / os.path.expanduser(file) for file in made.files))


def featured(member: MemberSpec, features: Mapping[str, FeaturesSpec]) -> MemberSpec:
    """Return the member with its featuriser beside the name of it."""
    return member if member.features is None else replace(member, featuriser=features[member.features])
