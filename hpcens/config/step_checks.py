"""Steps: what a user may write in short of a member's preprocessing, and what must hold of one step."""

from __future__ import annotations

import re
from typing import Any

from hpcens.config.document import Page, Place, shown

_FRACTION = re.compile(r"([-+]?\d{1,20}(?:\.\d{1,20})?) */ *(\d{1,20}(?:\.\d{1,20})?)", re.ASCII)
_SMOOTHED = ("bilinear", "bicubic")


def expand_steps(page: Page, place: Place, steps: Any) -> None:
    """Write the shorthands of a member's steps out, in place: fractions, and a resize that is only a size."""
    for i, step in enumerate(steps if isinstance(steps, list) else ()):
        if not isinstance(step, dict):
            continue
        here: Place = (*place, i)
        _expand_fraction(page, (*here, "scale"), step, "scale")
        normalize = step.get("normalize")
        for key in ("mean", "std"):
            numbers = normalize.get(key) if isinstance(normalize, dict) else None
            for number in range(len(numbers) if isinstance(numbers, list) else 0):
                _expand_fraction(page, (*here, "normalize", key, number), numbers, number)
        if type(step.get("resize")) is int or isinstance(step.get("resize"), list):
            step["resize"] = {"size": step["resize"]}
        resize = step.get("resize")
        if isinstance(resize, dict) and type(resize.get("size")) is int:
            resize["size"] = [resize["size"]]


def _expand_fraction(page: Page, place: Place, parent: Any, key: Any) -> None:
    """Put the number that a fraction like 1/255 is in its place. A text that is none is left to the types."""
    text = parent.get(key) if isinstance(parent, dict) else parent[key]
    fraction = _FRACTION.fullmatch(text.strip()) if isinstance(text, str) else None
    if fraction is None:
        return
    above, below = float(fraction[1]), float(fraction[2])
    parent[key] = above / below if below else page.refuse(place, f"{shown(text)} divides by 0; correct it")


def check_resize(page: Page, place: Place, resize: Any) -> None:
    """Check that a resize smooths only in a mode that can."""
    if not isinstance(resize, dict) or resize.get("antialias") is not True:
        return
    mode = resize.get("mode", _SMOOTHED[0])
    if isinstance(mode, str) and mode not in _SMOOTHED and (*place, "mode") not in page.refused:
        modes = " or ".join(_SMOOTHED)
        page.problem(
            (*place, "antialias"), f"is for {modes}, and the mode is {mode}; remove it, or write mode: bicubic"
        )
