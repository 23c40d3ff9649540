"""Members: what must hold of each of them, in one YAML, before any file of theirs is opened."""

from __future__ import annotations

import os
from typing import Any

from hpcens.config.document import Page, Place, read_beside, shown
from hpcens.config.group_checks import check_stacked
from hpcens.config.keys import example
from hpcens.config.pass_checks import check_passes
from hpcens.config.precision_checks import check_precision
from hpcens.config.route_checks import expand_rows
from hpcens.config.rule_checks import Parts
from hpcens.config.step_checks import check_resize, expand_steps
from hpcens.config.view_checks import check_views, expand_views
from hpcens.shell import listed
from hpcens.specs import SOURCES, STEPS, class_faults, merged_classes

_MOST_BYTES = 1 << 22  # of a file of class names
_SAFER = "give factory and weights, or a file of torch.export.save under exported"


def expand_member(page: Page, place: Place, member: dict[str, Any]) -> None:
    """Write the shorthands of a member out, in place."""
    for key in ("inputs", "trust", "files"):
        if isinstance(member.get(key), str):
            member[key] = [member[key]]
    _expand_weights(page, (*place, "weights"), member)
    if type(member.get("passes")) is int:
        member["passes"] = {"count": member["passes"]}
    if type(member.get("select")) is int:
        member["select"] = str(member["select"])
    expand_steps(page, (*place, "preprocess"), member.get("preprocess"))
    expand_rows(page, (*place, "rows"), member)
    expand_views(page, place, member)
    if "classes" in member:
        member["classes"] = _expand_classes(page, (*place, "classes"), member["classes"])


def _expand_weights(page: Page, place: Place, member: dict[str, Any]) -> None:
    """Write out a path alone, and `factory`, whose module comes with its weights."""
    weights = member.get("weights")
    if weights == "factory":
        member["weights"] = {}
    elif weights == "":
        page.refuse(place, f"must not be empty; {example(place)}")
    elif isinstance(weights, str):
        member["weights"] = {"path": weights}
    elif isinstance(weights, dict) and weights.get("path") is None:
        page.refuse((*place, "path"), f"is missing; {example((*place, 'path'))}")
    if isinstance(weights, dict) and isinstance(weights.get("ignore"), str):
        weights["ignore"] = [weights["ignore"]]


def _expand_classes(page: Page, place: Place, classes: Any) -> Any:
    """Return a member's classes as a mapping; a list of names, in its order, maps each of them to itself."""
    if isinstance(classes, str) and place not in page.refused:
        classes = read_names(page, place, classes)
    if classes is None or place in page.refused:
        return None
    if not isinstance(classes, list | dict):
        return page.refuse(place, f"expected a list or a mapping, not {shown(classes)}; {example(place)}")
    names = classes if isinstance(classes, list) else list(classes.values())
    strange = [name for name in names if not isinstance(name, str)]
    if strange:
        return page.refuse(place, f"expected text, not {shown(strange[0])}; put it in quotes, {example(place)}")
    twice = [name for i, name in enumerate(names) if name in names[:i]]
    if isinstance(classes, list) and twice:
        return page.refuse(place, f"{shown(twice[0])} is named twice; to add classes up, map them: {{hound: dog}}")
    return classes if isinstance(classes, dict) else {name: name for name in classes}


def read_names(page: Page, place: Place, file: str) -> list[str] | None:
    """Read class names from a text file, one a line, in the order of the outputs; None where it is refused.

    file  its path; a relative one starts at the folder of the YAML
    """
    path = page.folder / os.path.expanduser(file)
    try:
        text = read_beside(path, _MOST_BYTES)
        names = [line.strip() for line in text.decode("utf-8-sig").rstrip().splitlines()]
    except (OSError, ValueError) as error:
        problem = getattr(error, "strerror", None) or "is not UTF-8 text"
        page.refuse(place, f"{shown(file)}: {problem}; name a file with a class a line, or write classes: [cat, dog]")
        return None
    if "" in names:
        page.refuse(place, f"{shown(file)}: line {names.index('') + 1} is empty; write a class a line")
        return None
    return names


def check_members(parts: Parts) -> None:
    """Check each member by itself, and against the dataset's inputs and the ensemble's classes."""
    page, members, classes = parts.page, parts.at("members"), parts.at("classes")
    inputs = _inputs(parts)
    usable = classes if isinstance(classes, list) and all(isinstance(name, str) for name in classes) else None
    for i, member in enumerate(members if isinstance(members, list) else ()):
        place: Place = ("members", i)
        if isinstance(member, dict) and place not in page.refused:
            usable_keys = {
                key: value for key, value in member.items() if value is not None and (*place, key) not in page.refused
            }
            _check_source(page, place, usable_keys, member)
            _check_inputs(page, place, usable_keys, inputs)
            _check_steps(page, place, usable_keys, inputs)
            if isinstance(usable_keys.get("classes"), dict):
                _check_classes(
                    page,
                    (*place, "classes"),
                    usable_keys["classes"],
                    usable,
                    missing=classes is None and ("classes",) not in page.refused,
                    space=parts.space,
                )
            check_precision(parts, place, usable_keys)
            _check_gradients(page, place, usable_keys, parts.at("plan", "runtime"))
            check_passes(parts, place, usable_keys)
            check_stacked(parts, place, usable_keys)
            check_views(parts, place, usable_keys)
    features = parts.at("features")
    for name, made in features.items() if isinstance(features, dict) else ():
        if isinstance(made, dict) and ("features", name) not in page.refused:
            own = {key: v for key, v in made.items() if v is not None and ("features", name, key) not in page.refused}
            _check_inputs(page, ("features", name), own, inputs)
            _check_steps(page, ("features", name), own, inputs)


def _check_gradients(page: Page, place: Place, usable: dict[str, Any], runtime: str | None) -> None:
    if usable.get("gradients") is not True:
        return
    if graph := next((source for source in ("onnx", "exported") if source in usable), None):
        what = f"is for modules that call autograd in their forward, and {graph} is a graph without it; remove it"
        page.problem((*place, "gradients"), what)
    if runtime not in (None, "auto", "eager"):
        what = f"cannot be taken under plan.runtime: {runtime}; write runtime: auto or eager"
        page.problem((*place, "gradients"), what)


def _check_source(page: Page, place: Place, usable: dict[str, Any], member: dict[str, Any]) -> None:
    written = member.get("trust")
    trust = written if isinstance(written, list) else []
    sources = [source for source in SOURCES if member.get(source) is not None]
    if not sources and (*place, "factory") not in page.refused:
        others = f"or one of {', '.join(SOURCES[1:])}"
        page.problem((*place, "factory"), f"is missing; {example((*place, 'factory'))}, {others}")
    for source in sources[1:]:
        page.problem((*place, source), f"is a second source beside {sources[0]}; keep one of them")
    if sources[:1] == ["factory"] and member.get("weights") is None and (*place, "weights") not in page.refused:
        page.problem((*place, "weights"), f"is missing; {example((*place, 'weights'))}")
    if member.get("weights") == {} and "pickle" in trust:
        page.problem((*place, "trust"), "is for a file, and weights: factory names none; remove it")
    for key in ("weights", "arguments"):
        if sources and sources[0] != "factory" and key in usable:
            page.problem((*place, key), f"is for a factory, and {sources[0]} brings its own; remove one of them")
    refused = any(at[: len(place) + 1] == (*place, "trust") for at in page.refused)
    if sources[:1] == ["pickled"] and "pickle" not in trust and not refused:
        what = f"is missing: a pickled module can run any code; if you trust it, write trust: pickle, else {_SAFER}"
        page.problem((*place, "trust"), what)
    if sources and sources[0] not in ("factory", "pickled") and "pickle" in trust:
        page.problem((*place, "trust"), f"is for pickled or weights, and {sources[0]} is never unpickled; remove it")
    if sources and sources[0] not in ("torchscript", "exported", "pickled") and "file_access" in trust:
        what = f"file_access is for the graphs of torchscript and exported, and {sources[0]} brings none; remove it"
        page.problem((*place, "trust"), what)


def _inputs(parts: Parts) -> list[str] | None:
    """Name the dataset's inputs, where the YAML does."""
    inputs, path = parts.at("dataset", "inputs"), parts.at("dataset", "input")
    if isinstance(inputs, dict):
        return list(inputs)
    return [path.rstrip("/").rpartition("/")[2]] if isinstance(path, str) else None


def _check_inputs(page: Page, place: Place, usable: dict[str, Any], inputs: list[str] | None) -> None:
    names = usable.get("inputs") if usable.get("features") is None else None  # else they are what its featuriser gives
    for i, name in enumerate(names if isinstance(names, list) else ()):
        if inputs is not None and isinstance(name, str) and name and name not in inputs:
            what = f"{shown(name)} is no input of the dataset ({listed(inputs)}); add it there, or correct it"
            page.problem((*place, "inputs", i), what)


def _check_steps(page: Page, place: Place, usable: dict[str, Any], all_inputs: list[str] | None) -> None:
    steps, inputs = usable.get("preprocess"), usable.get("inputs", all_inputs)
    for i, step in enumerate(steps if isinstance(steps, list) else ()):
        step_place: Place = (*place, "preprocess", i)
        if not isinstance(step, dict) or step_place in page.refused:
            continue
        kinds = [kind for kind in STEPS if step.get(kind) is not None or (*step_place, kind) in page.refused]
        if not kinds and step.keys() <= {"input", *STEPS}:
            page.problem(step_place, f"names no step; {example(step_place)}, or one of {', '.join(STEPS)}")
        if len(kinds) > 1:
            page.problem(step_place, f"names {len(kinds)} steps: {', '.join(kinds)}; write each as an item of its own")
        name = step.get("input")
        if isinstance(inputs, list) and isinstance(name, str) and name not in inputs:
            whose = "these features" if place[0] == "features" else "this member"
            page.problem(
                (*step_place, "input"), f"{shown(name)} is no input of {whose}; add it to inputs, or remove it"
            )
        check_resize(page, (*step_place, "resize"), step.get("resize"))
        by = step.get("normalize")
        if isinstance(by, dict) and isinstance(by.get("mean"), list) and isinstance(by.get("std"), list):
            mean, std = len(by["mean"]), len(by["std"])
            if mean != std:
                page.problem((*step_place, "normalize"), f"has {mean} means and {std} stds; give one of each a channel")


def _check_classes(
    page: Page, place: Place, classes: dict[str, str], ensemble: list[str] | None, *, missing: bool, space: str
) -> None:
    if missing:
        what = "are mapped onto those of the ensemble, which are missing; write classes: at the top level"
        page.problem(place, what)
    for fault in class_faults(classes, ensemble) if ensemble is not None else ():
        page.problem(place, f"{fault}; map every class")
    added = merged_classes(classes)
    if added and space != "probabilities":
        what = f"several are mapped to {added[0]}, and only probabilities can be added, not {space}"
        page.problem(place, f"{what}; set rule.space: probabilities")
