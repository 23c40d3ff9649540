"""The task and the axis of classes: whether members, rule and outputs fit them, as far as the YAML tells."""

from __future__ import annotations

from hpcens.config.document import Place
from hpcens.config.rule_checks import Parts
from hpcens.specs import NORMALIZED, NOT_MULTILABEL, merged_classes


def check_task(parts: Parts) -> None:
    """Check what the task, the axis of classes and a rule's normalisation ask of the rest."""
    task = parts.at("task")
    if task == "regression":
        _check_values(parts)
    elif task is not None:
        _check_classification(parts, task)
    if task == "binary":
        _check_binary(parts)
    if task == "multilabel":
        _check_multilabel(parts)
    _check_class_axis(parts)
    if parts.at("rule", "normalize") is True:
        _check_normalize(parts, task)


def _check_values(parts: Parts) -> None:
    for i, output in parts.outputs.items():
        if output != "values":
            what = f"{output} of classes, and the task is regression; write output: values, or correct task"
            parts.page.refuse(("members", i, "output"), what)


def _check_classification(parts: Parts, task: str) -> None:
    for i, output in parts.outputs.items():
        if output == "values":
            what = f"values are no classes, and the task is {task}; write logits or probabilities, or task: regression"
            parts.page.refuse(("members", i, "output"), what)


def _check_binary(parts: Parts) -> None:
    classes = parts.at("classes")
    if isinstance(classes, list) and len(classes) != 2:
        what = f"task binary has two, the negative one first, and {len(classes)} are named"
        parts.page.problem(("classes",), f"{what}; correct them, or write task: multiclass")
    for place, name in _datasets(parts):
        if name.startswith("top-") and name[4:].isdecimal() and int(name[4:]) > 2:
            parts.page.problem(place, f"{name} of the two classes of task binary; ask for fewer")


def _check_multilabel(parts: Parts) -> None:
    page, rule = parts.page, parts.rule
    if rule in NOT_MULTILABEL:
        what = f"{rule} is for classes that exclude one another, and the task is multilabel; write name: mean"
        page.problem(("rule", "name"), what)
    for place, name in _datasets(parts):
        if ("top-K" if name.startswith("top-") else name) in NOT_MULTILABEL:
            what = f"{name} is chosen between classes that exclude one another, and the task is multilabel; remove it"
            page.problem(place, what)
    for i, classes in parts.of_members("classes").items():
        if isinstance(classes, dict) and (added := merged_classes(classes)):
            what = f"several are mapped to {added[0]}, and labels that do not exclude one another cannot be added"
            page.problem(("members", i, "classes"), f"{what}; map one to each")


def _check_class_axis(parts: Parts) -> None:
    if parts.space != "values" or parts.at("classes") is not None or ("classes",) in parts.page.refused:
        return
    stated: list[Place] = [("members", i, "class_axis") for i in parts.of_members("class_axis")]
    stated += [("class_axis",)] if parts.at("class_axis") is not None else []
    for place in stated:
        parts.page.problem(place, "is the axis of classes, and the members give values; remove it, or name classes")


def _check_normalize(parts: Parts, task: str | None) -> None:
    place: Place = ("rule", "normalize")
    if parts.rule in NORMALIZED:
        what = f"is for rules whose probabilities need not add up to 1, as median, and those of {parts.rule} do"
        parts.page.problem(place, f"{what}; remove it")
    elif parts.space != "probabilities":
        parts.page.problem(place, f"is for probabilities, and the rule combines {parts.space}; remove it")
    elif task == "multilabel":
        what = "labels that do not exclude one another need not add up to 1; remove it, or write task: multiclass"
        parts.page.problem(place, what)


def _datasets(parts: Parts) -> list[tuple[Place, str]]:
    """List the datasets that are asked for and can be used, with their places."""
    names = enumerate(parts.at("output", "datasets") or ())
    placed: list[tuple[Place, object]] = [(("output", "datasets", i), name) for i, name in names]
    return [(place, name) for place, name in placed if isinstance(name, str) and place not in parts.page.refused]
