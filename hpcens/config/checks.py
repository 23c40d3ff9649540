"""Checks: what is wrong with a page's content, in plain words, each finding with its remedy."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any

from hpcens.config.cascade_checks import check_cascade
from hpcens.config.dataset_checks import check_dataset
from hpcens.config.document import Page, Place, dotted, shown
from hpcens.config.feature_checks import check_features
from hpcens.config.keep_checks import check_keep
from hpcens.config.keys import KEYS, example, pattern
from hpcens.config.member_checks import check_members
from hpcens.config.precision_checks import check_tolerance
from hpcens.config.route_checks import check_routes
from hpcens.config.rule_checks import Parts, check_output, check_rule
from hpcens.config.task_checks import check_task
from hpcens.shell import has_control_characters

_TYPES = {
    "string_type": "text",
    "int_type": "a whole number",
    "float_type": "a number",
    "tuple_type": "a list",
    "bool_type": "true or false",
}
# What goes to code and to the shell of the user's own, and may say anything to them.
_FREE_TEXT = ("members[].arguments", "features{}.arguments", "rule.arguments", "slurm.setup")


def did_you_mean(word: object, words: Iterable[str]) -> str:
    """Ask for the word that is nearest to one that is unknown; empty where none is near."""
    close = get_close_matches(word[:60].lower(), words, 1) if isinstance(word, str) else []
    return f'did you mean "{close[0]}"?' if close else ""


def explain(page: Page, kind: str, place: Place, value: object) -> None:
    """Put one finding of pydantic on the page, in plain words.

    kind   pydantic's name for what is wrong
    value  what stands at the place
    """
    if kind == "unexpected_keyword_argument":
        parent, name = pattern(place[:-1]), str(place[-1])
        keys = [
            (folder, key) for folder, _, key in (key.rpartition(".") for key in KEYS) if not key.endswith(("]", "}"))
        ]
        siblings = [key for folder, key in keys if folder == parent]
        home = next((f"it belongs under {folder or 'the top level'}" for folder, key in keys if key == name), "")
        page.problem(
            place, f"unknown key; {home or did_you_mean(name, siblings) or 'known here: ' + ', '.join(siblings)}"
        )
    elif place in page.refused:
        return
    elif kind == "missing":
        page.refuse(place, f"is missing; {example(place)}")
    elif kind == "literal_error":
        refuse_choice(page, place, value)
    else:
        quotes = "put it in quotes, " if kind == "string_type" and isinstance(value, bool | int | float) else ""
        expected = _TYPES.get(kind, "a mapping (key: value)")
        page.refuse(place, f"expected {expected}, not {shown(value)}; {quotes}{example(place)}")


def refuse_choice(page: Page, place: Place, value: object) -> None:
    """Refuse a value that is none of the words it may be."""
    key = KEYS[pattern(place)]
    others = f", {key.otherwise}" if key.otherwise else ""
    remedy = did_you_mean(value, key.choices) or example(place)
    page.refuse(place, f"{shown(value)} is not one of {', '.join(key.choices)}{others}; {remedy}")


def check_values(page: Page, value: Any, place: Place = ()) -> None:
    """Check limits that a type cannot say, of each value by itself."""
    key = KEYS.get(pattern(place))
    if value is None or place in page.refused:
        return
    if key and key.choices and not key.holds(value):
        refuse_choice(page, place, value)
    elif key and not key.holds(value):
        subject = "" if isinstance(value, list) else f"{shown(value)} "
        page.refuse(place, f"{subject}{key.otherwise}; {example(place)}")
    elif (what := _unfit_for_scripts(place, value)) and place not in {noted for noted, _, _ in page.problems}:
        page.refuse(place, what)
    elif isinstance(value, dict | list):
        for part, inner in value.items() if isinstance(value, dict) else enumerate(value):
            check_values(page, inner, (*place, part))


def _unfit_for_scripts(place: Place, value: Any) -> str:
    """Say what keeps a value, or its key, from being a word of a script; empty where nothing does."""
    if any(pattern(place[:n]) in _FREE_TEXT for n in range(len(place) + 1)):
        return ""
    if any(isinstance(word, str) and has_control_characters(word) for word in (value, *place[-1:])):
        return "holds line breaks or other control characters; write it without"
    if place[:-1] == ("slurm", "arguments") and not re.fullmatch("[A-Za-z][A-Za-z0-9_-]*", str(place[-1])):
        return "is no argument of sbatch; write its long name without the dashes, for example reservation"
    return ""


def check_ensemble(page: Page, tree: dict[str, Any]) -> None:
    """Check what must fit together, as far as the parts can be used: one that is refused is left out."""
    parts = Parts(page, tree)
    check_task(parts)
    check_rule(parts)
    check_output(parts)
    check_keep(parts)
    check_members(parts)
    check_features(parts)
    check_tolerance(parts)
    check_dataset(page, parts.at("dataset"))
    check_routes(parts)
    check_cascade(parts)
    _check_unique(page, {("members", i, "name"): value for i, value in parts.of_members("name").items()})
    of_members = [("members", i, "inputs") for i in parts.of_members("inputs")]
    lists = (("classes",), ("dataset", "columns"), ("plan", "batch_sizes"), ("output", "datasets"), *of_members)
    for listed in lists:
        usable = {(*listed, i): value for i, value in enumerate(parts.at(*listed) or ())}
        _check_unique(page, {place: value for place, value in usable.items() if place not in page.refused})
    for i, views in parts.of_members("views").items():
        apply = views.get("apply") if isinstance(views, dict) else None
        seen = [view.get("call") if isinstance(view, dict) else None for view in apply or ()]
        places = {("members", i, "views", "apply", n): call for n, call in enumerate(seen) if isinstance(call, str)}
        _check_unique(page, {place: call for place, call in places.items() if place not in page.refused})


def _check_unique(page: Page, values: Mapping[Place, Any]) -> None:
    first: dict[Any, Place] = {}
    for place, value in values.items():
        if first.setdefault(value, place) != place:
            page.problem(place, f"{shown(value)} is already {dotted(first[value])}; remove it, or change one of them")
