"""Views: what a user may write in short of them, and what must hold of a member that has them."""

from __future__ import annotations

from typing import Any

from hpcens.config.document import Page, Place, shown
from hpcens.config.rule_checks import Parts
from hpcens.specs import COMBINABLE, TURNING, MemberSpec


def expand_views(page: Page, place: Place, member: dict[str, Any]) -> None:
    """Write the shorthands of a member's views out, in place: a list of them alone, and a name alone."""
    if isinstance(apply := member.get("views"), list):
        member["views"] = {"apply": apply}
        for i in range(len(apply)):
            page.place_as((*place, "views", i), (*place, "views", "apply", i))
    views = member.get("views")
    if isinstance(views, dict) and isinstance(apply := views.get("apply"), list):
        views["apply"] = [{"call": view} if isinstance(view, str) else view for view in apply]


def check_views(parts: Parts, place: Place, member: dict[str, Any]) -> None:
    """Check the views of a member, what of it can be used, against the rest of it and the rule."""
    page, views = parts.page, member.get("views")
    if not isinstance(views, dict):
        return
    here: Place = (*place, "views")
    apply = views.get("apply")
    usable = {
        i: view
        for i, view in enumerate(apply if isinstance(apply, list) else ())
        if isinstance(view, dict) and not any(at[: len(here) + 2] == (*here, "apply", i) for at in page.refused)
    }
    calls = {i: view["call"] for i, view in usable.items() if isinstance(view.get("call"), str)}
    if apply == [{"call": "identity"}]:
        page.problem((*here, "apply"), "identity alone is what a member without views sees; add hflip, or remove it")
    size = _last_size(member.get("preprocess"))
    for i, call in calls.items():
        if call in TURNING and size is not None and size[0] != size[1]:
            what = f"{call} exchanges height and width, and the preprocessing ends with {size[0]} × {size[1]}"
            page.problem((*here, "apply", i), f"{what}; crop or resize to a square, or remove it")
        if ":" not in call and usable[i].get("undo") is not None:
            what = f"is for a function, and {call} undoes itself; remove it"
            page.problem((*here, "apply", i, "undo"), what)
    if member.get("gradients") is True:
        what = "would turn what is a derivative by the inputs, as forces are, and nothing turns its arrows back"
        page.problem(here, f"{what}; remove views, or write a member for each with preprocess: [{{call: m:f}}]")
    if member.get("passes") is not None:
        what = "is not there together with passes: each pass would have to draw anew for each view"
        page.problem(here, f"{what}; remove one of them")
    if views.get("keep") is True and (*here, "keep") not in page.refused:
        what = "holding each view is not there; write a member for each, of the same weights, and name what it sees"
        page.problem((*here, "keep"), f"{what}: preprocess: [{{call: m:f}}]; or keep: false")
    _check_space(parts, (*here, "space"), views.get("space"), member)


def _last_size(steps: Any) -> tuple[int, int] | None:
    """Return height and width after the preprocessing; None where the YAML does not tell."""
    listed: list[Any] = steps if isinstance(steps, list) else []
    for step in reversed(listed):
        if not isinstance(step, dict) or step.get("call") or step.get("layout") or step.get("input"):
            return None
        resize = step.get("resize")
        size = step.get("crop") or (resize.get("size") if isinstance(resize, dict) else None)
        if size is not None:
            numbers = isinstance(size, list) and len(size) == 2 and all(type(n) is int for n in size)
            return (size[0], size[1]) if numbers else None
    return None


def _check_space(parts: Parts, place: Place, space: Any, member: dict[str, Any]) -> None:
    """Check that the mean is taken in the space of the rule, or in that of the member's output."""
    output = member.get("output", MemberSpec.__dataclass_fields__["output"].default)
    if space is None or place in parts.page.refused or output not in COMBINABLE.get(parts.space, ()):
        return
    if space not in (spaces := dict.fromkeys((parts.space, output))):
        what = f"the mean over views is taken of {' or '.join(spaces)}, which the rule combines or the member gives"
        parts.page.problem(place, f"{shown(space)}: {what}; write one of these, or remove it")
