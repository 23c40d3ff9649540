"""The cascade: whether its stages divide the members, and whether a stage can tell of a row that it is sure."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable
from difflib import get_close_matches
from typing import Any

from hpcens.config.document import Page, Place, dotted, shown
from hpcens.config.keys import example
from hpcens.config.route_checks import check_combined
from hpcens.config.rule_checks import Parts
from hpcens.specs import ACCEPTED, OF_ENTROPY, OF_SPREAD

_EXAMPLES = {"below": 0.1, "above": 0.9}


def expand_cascade(page: Page, tree: dict[str, Any]) -> None:
    """Write a single member out as a list, in place, and refuse what accepts by no known word."""
    stages = tree.get("cascade")
    for i, stage in enumerate(stages if isinstance(stages, list) else ()):
        if not isinstance(stage, dict):
            continue
        if isinstance(stage.get("members"), str):
            stage["members"] = [stage["members"]]
        _expand_accept(page, ("cascade", i, "accept"), stage)


def _expand_accept(page: Page, place: Place, stage: dict[str, Any]) -> None:
    accept = stage.get("accept")
    if accept is None or place in page.refused:
        stage.pop("accept", None)
        return
    if not isinstance(accept, dict) or not accept:
        page.refuse(place, f"expected a mapping (key: value), not {shown(accept)}; {example(place)}")
        return
    for name, limit in accept.items():
        here = (*place, name)
        if name not in ACCEPTED:
            near = get_close_matches(str(name), ACCEPTED, 1)
            remedy = f'did you mean "{near[0]}"?' if near else f"known here: {', '.join(ACCEPTED)}"
            page.refuse(here, f"is nothing that a row is accepted by; {remedy}")
            continue
        side = ACCEPTED[name]
        written = limit.get(side) if isinstance(limit, dict) else None
        number = isinstance(written, int | float) and not isinstance(written, bool) and math.isfinite(written)
        if not isinstance(limit, dict) or limit.keys() != {side} or not number:
            page.refuse(
                here, f"accepts rows that are {side} a number; for example {name}: {{{side}: {_EXAMPLES[side]}}}"
            )


def check_cascade(parts: Parts) -> None:
    """Check stages against the members, and what they accept by against what the rule gives."""
    page, stages = parts.page, parts.at("cascade")
    if not isinstance(stages, list) or not all(isinstance(stage, dict) for stage in stages):
        return
    if len(stages) == 1:
        page.problem(("cascade",), "has one stage, so that no row is spared a member; write a second, or remove it")
    _check_members(parts, stages)
    if not parts.of_members("rows"):  # else it is said of those
        check_combined(parts, "cascade")
    names = parts.of_members("name")
    drawn = {names[i] for i in parts.of_members("passes") if i in names}
    so_far: list[Any] = []
    for i, stage in enumerate(stages):
        place = ("cascade", i, "accept")
        so_far += parts.at("cascade", i, "members") or ()
        last = i == len(stages) - 1
        if place in page.refused or len(stages) == 1:
            continue
        if last and stage.get("accept"):
            page.problem(place, "accepts rows, and no stage comes after it that they could be spared; remove it")
        elif not last and not stage.get("accept"):
            page.problem(place, f"is missing: the stages after it would score no row, or all; {example(place)}")
        for name in stage.get("accept") or ():
            if not last and (*place, name) not in page.refused:
                _check_criterion(parts, (*place, name), name, len(so_far), drawn & {*map(str, so_far)})


def _check_members(parts: Parts, stages: list[dict[str, Any]]) -> None:
    """Check that each member is in one stage."""
    page, names = parts.page, list(parts.of_members("name").values())
    seen: dict[str, Place] = {}
    sound = True
    for i in range(len(stages)):
        listed = parts.at("cascade", i, "members")
        sound = sound and isinstance(listed, list)
        for j, name in enumerate(listed if isinstance(listed, list) else ()):
            place: Place = ("cascade", i, "members", j)
            if name not in names:
                near = get_close_matches(str(name), [str(known) for known in names], 1)
                remedy = f'did you mean "{near[0]}"?' if near else f"there are {_listed(names)}"
                page.problem(place, f"{shown(name)} is no member; {remedy}")
            elif name in seen:
                page.problem(place, f"{shown(name)} is already {dotted(seen[name])}; keep one of them")
            else:
                seen[name] = place
    for i, name in parts.of_members("name").items() if sound else ():
        if name not in seen:
            page.problem(("members", i, "name"), f"{shown(name)} is in no stage of the cascade; add it to one")


def _listed(names: Iterable[object]) -> str:
    return ", ".join(map(str, names))


def _check_criterion(parts: Parts, place: Place, name: str, members: int, drawn: Collection[str]) -> None:
    """Check that what a stage accepts by is there.

    members  number of those that have scored by then; drawn: names of those of them that are run in passes
    """
    values = "values" in parts.outputs.values()
    if name != "variance" and (values or parts.space == "values"):
        what = "needs members that classify, and some give values; write variance: {{below: 0.1}}"
        parts.page.problem(place, what)
    elif name == "disagreement" and parts.at("task") == "multilabel":
        what = "is of classes that exclude one another, and the task is multilabel; write entropy"
        parts.page.problem(place, what)
    elif name in OF_ENTROPY and drawn and parts.space == "logits":
        what = f"is of probabilities, as {min(drawn)} has passes, and rule.space is logits"
        parts.page.problem(place, f"{what}; remove rule.space, or write max_probability or margin")
    elif name in OF_SPREAD and members == 1 and not (name == "mutual_information" and drawn):
        what = "is how far members are apart, and one member has scored by then"
        other = "name a second member in the stage" if values else "write entropy, max_probability or margin"
        parts.page.problem(place, f"{what}; {other}")
