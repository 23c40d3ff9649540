"""Curves of one quantity over another, as dots with lines between them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from hpcens.reports.svg import apart, dot, label, line, picture, ticks

_WIDTH, _HEIGHT = 520.0, 340.0
_LEFT, _FOOT, _EDGE = 70.0, 44.0, 16.0


@dataclass(frozen=True, slots=True)
class Dot:
    """A point of a curve.

    size       its radius
    title      shown where the pointer rests on it
    kind       class of its colour
    low, high  ends of an interval that is drawn through it; None: none is
    """

    x: float
    y: float
    size: float
    title: str
    kind: str = "first"
    low: float | None = None
    high: float | None = None


def curve(
    dots: Sequence[Dot],
    about: str,
    *,
    across: str,
    up: str,
    diagonal: bool = False,
    close: bool = False,
    beside: Sequence[Dot] = (),
) -> str:
    """Draw a curve from 0, and what its axes are.

    diagonal  draw where both are equal as a broken line, on axes of one length
    close     let the axis upwards begin a little below the lowest dot, not at 0
    beside    dots that no line leads to
    """
    every = [*dots, *beside]
    right, highest = max(each.x for each in every), max(_ends(each)[1] for each in every)
    if diagonal:
        right = highest = max(right, highest)
    lowest = min(_ends(each)[0] for each in every) if close else 0.0
    bottom = lowest - 0.15 * (highest - lowest) if close else 0.0
    right, top = right or 1.0, bottom + 1.05 * (highest - bottom) or 1.0
    foot, wide = _HEIGHT - _FOOT, _WIDTH - _LEFT - _EDGE
    to_x, to_y = wide / (1.02 * right), (foot - _EDGE) / ((top - bottom) or 1.0)

    def place(x: float, y: float) -> tuple[float, float]:
        return _LEFT + x * to_x, foot - (y - bottom) * to_y

    parts: list[str] = []
    marks = ticks(bottom, top, 5)
    for tick, text in zip(marks, apart(marks), strict=True):
        _, y = place(0.0, tick)
        parts += [line(_LEFT, y, _WIDTH - _EDGE, y, "grid")]
        parts += [label(_LEFT - 8, y + 4, text, anchor="end", kind="small")]
    marks = ticks(0.0, right, 5)
    for tick, text in zip(marks, apart(marks), strict=True):
        x, _ = place(tick, 0.0)
        parts += [line(x, foot, x, foot + 4, "axis"), label(x, foot + 17, text, anchor="middle", kind="small")]
    parts.append(line(_LEFT, foot, _WIDTH - _EDGE, foot, "axis"))
    if diagonal:
        end = min(right, top)
        parts.append(line(*place(0.0, 0.0), *place(end, end), "broken"))
    parts += [line(*place(a.x, a.y), *place(b.x, b.y), "curve") for a, b in pairwise(dots)]
    for each in every:
        if each.low is not None and each.high is not None:
            parts.append(line(*place(each.x, each.low), *place(each.x, each.high), "whisker"))
    parts += [dot(*place(each.x, each.y), each.size, each.kind, title=each.title) for each in every]
    parts.append(label(_WIDTH - _EDGE, foot + 36, across, anchor="end", kind="small"))
    parts.append(label(_LEFT + 6, 12, up, kind="small"))
    return picture(_WIDTH, _HEIGHT, parts, about)


def _ends(each: Dot) -> tuple[float, float]:
    return (each.y if each.low is None else each.low, each.y if each.high is None else each.high)


def reliability(bins: Sequence[Mapping[str, Any]]) -> str:
    """Draw how often something is right by how sure it says it is. bins: `confidence`, `accuracy` and `points` each."""
    most = max(each["points"] for each in bins)
    dots = [
        Dot(
            each["confidence"],
            each["accuracy"],
            2 + 5 * (each["points"] / most) ** 0.5,
            f"{each['points']:,}: confidence {each['confidence']:.3f}, right {each['accuracy']:.3f}",
        )
        for each in bins
    ]
    return curve(dots, "reliability diagram", across="confidence", up="share that is right", diagonal=True)
