"""Routes: which rows members score, written out, and what must fit together where they do not score all."""

from __future__ import annotations

from typing import Any

from hpcens.config.document import Page, Place, shown
from hpcens.config.keys import example
from hpcens.config.rule_checks import Parts
from hpcens.specs import NOT_OF

_PATH = "path"


def expand_rows(page: Page, place: Place, member: dict[str, Any]) -> None:
    """Write the rows of a member out, in place: a list of values for each route, those that are left out apart."""
    rows = member.get("rows")
    if rows is None or place in page.refused:
        return
    if not isinstance(rows, dict):
        page.refuse(place, f"expected a mapping (key: value), not {shown(rows)}; {example(place)}")
        return
    written: dict[str, list[int | str]] = {}
    for name, wanted in rows.items():
        without = isinstance(wanted, dict) and wanted.keys() == {"not"}
        values = wanted["not"] if without else wanted
        values = values if isinstance(values, list) else [values]
        here = (*place, name)
        if name == _PATH and (without or len(values) != 1 or not isinstance(values[0], str) or not values[0]):
            page.refuse(here, f"{shown(wanted)} is no path of a mask; for example path: data/mask")
        elif not values or not all(isinstance(value, int | str) for value in values):
            what = f"{shown(wanted)} is neither a value nor a list of them; {example(here)}, or {name}: {{not: [1, 2]}}"
            page.refuse(here, what)
        else:
            numbers = [int(value) if isinstance(value, bool) else value for value in values]
            written[f"{NOT_OF}{name}" if without else str(name)] = numbers
    if written or not rows:
        member["rows"] = written


def check_routes(parts: Parts) -> None:
    """Check members' rows against the routes of the dataset, and against what combines and stores what they give."""
    page, routes, rows = parts.page, parts.at("dataset", "route"), parts.of_members("rows")
    routes = routes if isinstance(routes, dict) else {}
    named = {i: [str(key).removeprefix(NOT_OF) for key in keys] for i, keys in rows.items() if isinstance(keys, dict)}
    for i, names in named.items():
        for name in names:
            place = ("members", i, "rows", name)
            if place in page.refused:
                continue
            if name == _PATH and len(names) > 1:
                page.problem(place, "names a mask, which stands by itself; keep the mask, or the routes")
            elif name != _PATH and name not in routes:
                known = f", which has {', '.join(map(str, routes))}" if routes else ""
                what = f"is no route of the dataset{known}; write dataset.route: {{{name}: data/{name}}}"
                page.problem(place, what)
    used = {name for names in named.values() for name in names}
    used |= {str(place[3]) for place in page.refused if place[::2] == ("members", "rows") and len(place) == 4}
    for name in routes:
        if ("dataset", "route", name) in page.refused:
            continue
        if name == _PATH or str(name).startswith(NOT_OF):
            page.problem(("dataset", "route", name), "is a word of members[].rows; choose another name")
        elif name not in used and len(named) == len(rows):
            what = "is named by no members[].rows, so it routes nothing; write rows for a member, or remove it"
            page.problem(("dataset", "route", name), what)
    if rows:
        check_combined(parts, "members[].rows")


def check_combined(parts: Parts, key: str) -> None:
    """Check that rows which not all members score can be combined and stored. key: what leaves members out of them."""
    page = parts.page
    if parts.rule == "stack":
        what = f"stack is fed with all members, and {key} leaves some out of a row; write rule: mean"
        page.problem(("rule", "name"), what)
    if parts.rule == "weighted":
        for i, weight in parts.of_members("weight").items():
            if weight == 0:
                what = f"0 leaves nothing of the rows that the member scores alone ({key}); write more than 0"
                page.problem(("members", i, "weight"), what)
    if parts.at("output", "dtype") == "uint8":
        what = f"uint8 has no NaN for the rows that a member does not score ({key}); write float16 or float32"
        page.problem(("output", "dtype"), what)
