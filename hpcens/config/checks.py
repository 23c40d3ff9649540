"""Checks: what is wrong with a page's content, in plain words, each finding with its remedy."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any

from hpcens.config.keys import KEYS, example, pattern
from hpcens.config.page import Page, Place, dotted, shown
from hpcens.specs import COMBINABLE, MemberSpec, RuleSpec

_TYPES = {"string_type": "text", "int_type": "a whole number", "float_type": "a number", "tuple_type": "a list"}


def did_you_mean(word: object, known: Iterable[str]) -> str:
    close = get_close_matches(word[:60].lower(), known, 1) if isinstance(word, str) else []
    return f'did you mean "{close[0]}"?' if close else ""


def explain(page: Page, kind: str, place: Place, given: object) -> None:
    """Puts one finding of pydantic on the page, in plain words."""
    if kind == "unexpected_keyword_argument":
        parent, name = pattern(place[:-1]), str(place[-1])
        keys = [(folder, key) for folder, _, key in (key.rpartition(".") for key in KEYS) if not key.endswith("]")]
        known = [key for folder, key in keys if folder == parent]
        home = next((f"it belongs under {folder or 'the top level'}" for folder, key in keys if key == name), "")
        page.problem(place, f"unknown key; {home or did_you_mean(name, known) or 'known here: ' + ', '.join(known)}")
    elif place in page.refused:
        return
    elif kind == "missing":
        page.refuse(place, f"is missing; {example(place)}")
    elif kind == "literal_error":
        choices = KEYS[pattern(place)].choices
        remedy = did_you_mean(given, choices) or example(place)
        page.refuse(place, f"{shown(given)} is not one of {', '.join(choices)}; {remedy}")
    else:
        quotes = "put it in quotes, " if kind == "string_type" and isinstance(given, bool | int | float) else ""
        expected = _TYPES.get(kind, "a mapping (key: value)")
        page.refuse(place, f"expected {expected}, not {shown(given)}; {quotes}{example(place)}")


def check_values(page: Page, value: Any, place: Place = ()) -> None:
    """Limits that a type cannot say, of each value by itself."""
    key = KEYS.get(pattern(place))
    if value is None or place in page.refused:
        return
    if key and not key.holds(value):
        given = "" if isinstance(value, list) else f"{shown(value)} "
        page.refuse(place, f"{given}{key.otherwise}; {example(place)}")
    elif isinstance(value, dict | list):
        for part, inner in value.items() if isinstance(value, dict) else enumerate(value):
            check_values(page, inner, (*place, part))


def check_ensemble(page: Page, tree: dict[str, Any]) -> None:
    """What must fit together, as far as the parts are known: a refused part takes no part."""

    def at(place: Place, parent: Any, default: Any = None) -> Any:
        return parent.get(place[-1], default) if isinstance(parent, dict) and place not in page.refused else None

    def of_members(key: str, default: Any = None) -> dict[int, Any]:
        found = {i: at(("members", i, key), m, default) for i, m in enumerate(at(("members",), tree) or ())}
        return {i: value for i, value in found.items() if value is not None}

    outputs = of_members("output", MemberSpec.__dataclass_fields__["output"].default)
    rule = at(("rule",), tree, {})
    name = at(("rule", "name"), rule, RuleSpec().name)
    space = at(("rule", "space"), rule) or ("values" if set(outputs.values()) == {"values"} else "probabilities")
    for i, output in outputs.items():
        place = ("members", i, "output")
        if name == "vote" and output == "values":
            page.problem(place, "rule vote counts classes, and values are none; write rule: mean, or logits here")
        elif output not in COMBINABLE[space]:
            what = f"{output} cannot be combined as {space}"
            page.problem(place, f"{what}; set rule.space, or the members' output, so that all share one space")
    _check_weights(page, name, of_members("weight"), range(len(at(("members",), tree) or ())))
    datasets = at(("output", "datasets"), at(("output",), tree)) or []
    if "values" in outputs.values() and "label" in datasets:
        what = "label needs members that classify, and some give values; remove it"
        page.problem(("output", "datasets", datasets.index("label")), what)
    _check_unique(page, {("members", i, "name"): value for i, value in of_members("name").items()})
    lists: dict[Place, Any] = {
        ("classes",): at(("classes",), tree),
        ("plan", "batch_sizes"): at(("plan", "batch_sizes"), at(("plan",), tree)),
        ("output", "datasets"): datasets,
    }
    for listed, values in lists.items():
        usable = {(*listed, i): value for i, value in enumerate(values or ())}
        _check_unique(page, {here: value for here, value in usable.items() if here not in page.refused})


def _check_weights(page: Page, rule: str | None, weights: Mapping[int, float], members: Iterable[int]) -> None:
    places = {i: ("members", i, "weight") for i in members}
    if rule == "weighted":
        for i, place in places.items():
            if i not in weights and place not in page.refused and place[:2] not in page.refused:
                page.problem(place, f"is missing: rule weighted needs one of every member; {example(place)}")
        if weights.keys() == places.keys() and weights and not 0 < sum(weights.values()) < math.inf:
            page.problem(("members",), f"the weights add up to {sum(weights.values())}; change some of them")
    elif rule:
        for i in weights:
            page.problem(places[i], f"is for rule weighted, but the rule is {rule}; remove it, or write rule: weighted")


def _check_unique(page: Page, values: Mapping[Place, Any]) -> None:
    first: dict[Any, Place] = {}
    for place, value in values.items():
        if first.setdefault(value, place) != place:
            page.problem(place, f"{shown(value)} is already {dotted(first[value])}; remove it, or change one of them")
