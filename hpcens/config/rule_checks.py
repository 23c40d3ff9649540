"""The rule and the outputs: whether rule, members and outputs fit each other, as far as the YAML tells."""

from __future__ import annotations

import math
from typing import Any

from hpcens.config.document import Page
from hpcens.config.keys import example
from hpcens.specs import COMBINABLE, OF_CLASSES, RULE_SPACES, MemberSpec, RuleSpec, Space

_OWN = {
    "trim": "trimmed",
    "factory": "stack",
    "arguments": "stack",
    "weights": "stack",
    "output": "stack",
    "precision": "stack",
}
_NEEDED = ("trim", "factory", "weights")
_LEVELS = {"gzip": range(10), "lzf": range(0), "zstd": range(1, 23), "blosc-zstd": range(10), "blosc-lz4": range(10)}


class Parts:
    """The parts of a page that can be used: what was refused is as good as absent."""

    def __init__(self, page: Page, tree: dict[str, Any]) -> None:
        self.page = page
        self._tree = tree

    def at(self, *place: str | int, default: Any = None) -> Any:
        """Return the value of a place; the default where it, or what it lies in, is absent or refused."""
        value: Any = self._tree
        for depth, key in enumerate(place, 1):
            if place[:depth] in self.page.refused:
                return default
            if isinstance(value, list) and isinstance(key, int):
                value = value[key]
            elif isinstance(value, dict):
                value = value.get(str(key))
            else:
                return default
        return default if value is None else value

    def of_members(self, key: str, default: Any = None) -> dict[int, Any]:
        """Return a key's value of each member, by number; members that have none, or are no mapping, are left out."""
        members = self.at("members") or ()
        values = {
            i: self.at("members", i, key, default=None if ("members", i, key) in self.page.refused else default)
            for i, member in enumerate(members)
            if isinstance(member, dict) and ("members", i) not in self.page.refused
        }
        return {i: value for i, value in values.items() if value is not None}

    @property
    def outputs(self) -> dict[int, str]:
        """What each member returns (logits, probabilities or values), by its place in the list."""
        return self.of_members("output", MemberSpec.__dataclass_fields__["output"].default)

    @property
    def rule(self) -> str | None:
        """Name of the rule; that of the default where the YAML names none, None where it cannot be used."""
        usable = ("rule",) not in self.page.refused and ("rule", "name") not in self.page.refused
        name: str | None = self.at("rule", "name", default=RuleSpec().name if usable else None)
        return name

    @property
    def space(self) -> Space:
        """Where members are combined: as stated; else values, if every member gives values, or probabilities."""
        values = set(self.outputs.values()) == {"values"}
        space: Space = self.at("rule", "space") or ("values" if values else "probabilities")
        return space


def check_rule(parts: Parts) -> None:
    """Check the rule against the members' outputs and weights, and its own keys."""
    page, rule, space = parts.page, parts.rule, parts.space
    without_classes = rule == "vote" and parts.at("task") == "regression"
    if without_classes:
        page.problem(("rule",), "vote counts classes, and task: regression has none; write rule: mean")
    for i, output in parts.outputs.items():
        place = ("members", i, "output")
        if without_classes and output == "values":
            continue
        if rule == "vote" and output == "values":
            page.problem(place, "rule vote counts classes, and values are none; write rule: mean, or logits here")
        elif output not in COMBINABLE[space]:
            what = f"{output} cannot be combined as {space}"
            page.problem(place, f"{what}; set rule.space, or the members' output, so that all share one space")
    stated = parts.at("rule", "space")
    if rule and stated and space not in RULE_SPACES.get(rule, (space,)):
        fitting = " or ".join(RULE_SPACES[rule])
        page.problem(("rule", "space"), f"rule {rule} combines {fitting}, not {space}; remove it, or write rule: mean")
    output_space = parts.at("rule", "output")
    if rule == "stack" and output_space and output_space not in COMBINABLE[space]:
        page.problem(
            ("rule", "output"), f"{output_space} are not {space}, which the rule combines; write output: {space}"
        )
    if rule:
        _check_own_keys(parts, rule)
        _check_weights(parts, rule)


def _check_own_keys(parts: Parts, rule: str) -> None:
    page = parts.page
    for key, owner in _OWN.items():
        place = ("rule", key)
        value = parts.at(*place)
        if rule == owner and value is None and key in _NEEDED and place not in page.refused:
            page.problem(place, f"is missing: rule {rule} needs it; {example(place)}")
        elif rule != owner and value is not None:
            page.problem(place, f"is for rule {owner}, but the rule is {rule}; remove it, or write name: {owner}")
    trim, members = parts.at("rule", "trim"), len(parts.at("members") or ())
    if rule == "trimmed" and trim and members and not RuleSpec(trim=trim).cut(members):
        least = f"{math.ceil(100 / members) / 100:g} or more" if members > 2 else "it for 3 members or more"
        what = f"{trim} of {members} members is less than one, so none would be left out"
        page.problem(("rule", "trim"), f"{what}; write {least}, or rule: mean")


def _check_weights(parts: Parts, rule: str) -> None:
    page, weights = parts.page, parts.of_members("weight")
    places = {i: ("members", i, "weight") for i in range(len(parts.at("members") or ()))}
    if rule == "weighted":
        for i, place in places.items():
            if i not in weights and place not in page.refused and place[:2] not in page.refused:
                page.problem(place, f"is missing: rule weighted needs one of every member; {example(place)}")
        if weights.keys() == places.keys() and weights and not 0 < sum(weights.values()) < math.inf:
            page.problem(("members",), f"the weights add up to {sum(weights.values())}; change some of them")
    else:
        for i in weights:
            page.problem(places[i], f"is for rule weighted, but the rule is {rule}; remove it, or write rule: weighted")


def check_output(parts: Parts) -> None:
    """Check what the result is to hold against the members' outputs."""
    page = parts.page
    names = [
        (("output", "datasets", i), name)
        for i, name in enumerate(parts.at("output", "datasets") or ())
        if isinstance(name, str) and ("output", "datasets", i) not in page.refused
    ]
    tops = [(place, name) for place, name in names if name.startswith("top-")]
    classes = parts.at("classes")
    for place, name in names:
        if "values" in parts.outputs.values() and ("top-K" if name.startswith("top-") else name) in OF_CLASSES:
            page.problem(place, f"{name} needs members that classify, and some give values; remove it")
    for place, name in tops[1:]:
        if name != tops[0][1]:
            page.problem(place, f"{name} besides {tops[0][1]}: only one is kept; remove the smaller one")
    for place, name in tops:
        if isinstance(classes, list) and int(name[4:]) > len(classes):
            page.problem(place, f"{name} of {len(classes)} classes; ask for fewer")
    if parts.at("output", "dtype") == "uint8" and parts.space != "probabilities":
        page.problem(("output", "dtype"), f"uint8 is for probabilities, not {parts.space}; write float16 or float32")
    _check_compression(parts)


def _check_compression(parts: Parts) -> None:
    name, level = parts.at("output", "compression", "name"), parts.at("output", "compression", "level")
    if name and level is not None and level not in _LEVELS[name]:
        levels = f"has levels {_LEVELS[name][0]} to {_LEVELS[name][-1]}" if _LEVELS[name] else "has no levels"
        parts.page.problem(("output", "compression", "level"), f"{name} {levels}; correct it, or remove it")
