"""Draw in SVG: the few shapes that charts are made of, every text in them escaped. Colours are the page's classes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from html import escape

from hpcens.shell import printable

_WIDE = 6.6  # units of a letter, on average, in text of 12 units


def words(text: object) -> str:
    """Return a text as HTML and XML can hold it, between tags and in quotes; what would be obeyed is shown escaped."""
    return escape(printable(str(text)))


def width_of(text: str) -> float:
    """Return about how wide a text is drawn."""
    return _WIDE * len(text)


def short(text: str, most: float) -> str:
    """Return a text that is about as wide as `most` allows, its middle left out."""
    letters = max(5, int(most / _WIDE + 0.01))
    if len(text) <= letters:
        return text
    return f"{text[: letters - letters // 2 - 1]}…{text[-(letters // 2) :]}"


def picture(width: float, height: float, parts: Iterable[str], label: str) -> str:
    """Return a whole picture, in its own units, and what it shows, for those who cannot see it."""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}"'
        f' viewBox="0 0 {width:.0f} {height:.0f}" role="img" aria-label="{words(label)}">{"".join(parts)}</svg>'
    )


def rectangle(
    x: float, y: float, width: float, height: float, kind: str, *, title: str = "", opacity: float = 1.0
) -> str:
    """Return a rectangle; x, y: its upper left corner, in pixels.

    kind   class of the page's style: its colour
    title  shown where the pointer rests on it
    """
    clear = "" if opacity >= 1 else f' fill-opacity="{opacity:.2f}"'
    shape = f'x="{x:.1f}" y="{y:.1f}" width="{max(0.0, width):.1f}" height="{max(0.0, height):.1f}"'
    return f'<rect class="{words(kind)}" {shape}{clear}>{_title(title)}</rect>'


def dot(x: float, y: float, radius: float, kind: str, *, title: str = "") -> str:
    """Return a dot. kind: class of its colour; title: shown where the pointer rests on it."""
    return f'<circle class="{words(kind)}" cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}">{_title(title)}</circle>'


def line(x: float, y: float, to_x: float, to_y: float, kind: str) -> str:
    """Return a straight line between two points, in pixels. kind: class of its colour."""
    return f'<line class="{words(kind)}" x1="{x:.1f}" y1="{y:.1f}" x2="{to_x:.1f}" y2="{to_y:.1f}"/>'


def label(x: float, y: float, text: str, *, anchor: str = "start", kind: str = "") -> str:
    """Return a text whose start, middle or end is at x, its foot at y."""
    style = f' class="{words(kind)}"' if kind else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{words(anchor)}"{style}>{words(text)}</text>'


def _title(text: str) -> str:
    return f"<title>{words(text)}</title>" if text else ""


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Return round numbers from low to high, about as many as `count`."""
    if not (math.isfinite(low) and math.isfinite(high)) or high <= low:
        return [low]
    rough = (high - low) / count
    unit = 10 ** math.floor(math.log10(rough))
    step = next(unit * factor for factor in (1, 2, 5, 10) if unit * factor >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [number * step for number in range(first, math.floor(high / step + 1e-9) + 1)]


def apart(numbers: Sequence[float]) -> list[str]:
    """Write numbers that lie evenly with as many digits as tell each from the next."""
    if len(numbers) < 2:
        return [f"{number:.3g}" for number in numbers]
    step, most = numbers[1] - numbers[0], max(map(abs, numbers))
    place = math.floor(math.log10(step) + 1e-9)
    if most < 1e7 and place >= -4:
        return [f"{number:,.{max(0, -place)}f}" for number in numbers]
    digits = min(15, max(1, math.floor(math.log10(most)) - place + 1))
    return [f"{0.0 if abs(number) < step / 1000 else number:.{digits}g}" for number in numbers]
