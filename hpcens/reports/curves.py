"""Curves of one quantity over another, as dots with lines between them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from hpcens.reports.svg import apart, dot, label, line, picture, ticks

_WIDTH, _HEIGHT = 520.0, 340.0
_LEFT, _FOOT, _EDGE = 70.0, 44.0, 16.0


@dataclass(frozen=True, slots=True)
class Dot:
    """A point of a curve. size: its radius; title: shown where the pointer rests on it."""

    x: float
    y: float
    size: float
    title: str


def curve(dots: Sequence[Dot], about: str, *, across: str, up: str, diagonal: bool = False) -> str:
    """Draw a curve from 0, and what its axes are.

    diagonal  draw where both are equal as a broken line, on axes of one length
    """
    right, top = max(each.x for each in dots), max(each.y for each in dots)
    if diagonal:
        right = top = max(right, top)
    right, top = right or 1.0, 1.05 * top or 1.0
    foot, wide = _HEIGHT - _FOOT, _WIDTH - _LEFT - _EDGE
    to_x, to_y = wide / (1.02 * right), (foot - _EDGE) / top

    def place(x: float, y: float) -> tuple[float, float]:
        return _LEFT + x * to_x, foot - y * to_y

    parts: list[str] = []
    marks = ticks(0.0, top, 5)
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
    parts += [dot(*place(each.x, each.y), each.size, "first", title=each.title) for each in dots]
    parts.append(label(_WIDTH - _EDGE, foot + 36, across, anchor="end", kind="small"))
    parts.append(label(_LEFT + 6, 12, up, kind="small"))
    return picture(_WIDTH, _HEIGHT, parts, about)
