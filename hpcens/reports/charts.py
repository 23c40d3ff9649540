"""Charts from plain numbers: a heat map, bars, a curve over time, a histogram, lanes of time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hpcens.reports.svg import apart, label, line, picture, rectangle, short, ticks, width_of, words
from hpcens.reports.text import figures

WIDTH = 860.0
_ROW = 22.0
_FOOT = 34.0
_LABELS = 260.0


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell of a heat map.

    shade  0 … 1: how dark it is
    text   in it, and below it in small
    title  shown where the pointer rests on it
    """

    shade: float
    text: str
    small: str
    title: str


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar within a row.

    value  its length
    kind   class of its colour
    least  and most: a thin line from one to the other, where several are put together
    """

    value: float
    kind: str
    title: str = ""
    least: float | None = None
    most: float | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """A row of bars, one below the other; `of` is drawn behind them as what there is in all."""

    name: str
    bars: Sequence[Bar]
    text: str = ""
    of: float | None = None


@dataclass(frozen=True, slots=True)
class Stretch:
    """What a lane shows from one moment to another, in seconds."""

    begin: float
    end: float
    kind: str
    title: str = ""


def heat_map(
    columns: Sequence[str],
    rows: Sequence[tuple[str, Sequence[Cell | None]]],
    about: str,
    *,
    least: float = 76.0,
    height: float = 40.0,
) -> str:
    """Draw a table whose cells are the darker the more of something they have.

    rows    name, and a cell for each column; None: there is nothing
    least   width of a column; height: of a row
    """
    left = _left([name for name, _ in rows])
    wide = [min(180.0, max(least, width_of(name) + 16)) for name in columns]
    places = [left + sum(wide[:number]) for number in range(len(wide))]
    top = 26.0
    parts = [
        label(place + width / 2, 17, short(name, width - 12), anchor="middle", kind="head")
        for name, place, width in zip(columns, places, wide, strict=True)
    ]
    for number, (name, cells) in enumerate(rows):
        y = top + height * number
        parts.append(label(left - 10, y + height / 2 + 4, short(name, left - 20), anchor="end"))
        for cell, place, width in zip(cells, places, wide, strict=True):
            parts += _cell(cell, place, y, width, height)
    return picture(left + sum(wide) + 2, top + height * len(rows) + 2, parts, about)


def _cell(cell: Cell | None, x: float, y: float, width: float, height: float) -> list[str]:
    if cell is None:
        empty = rectangle(x + 1, y + 1, width - 2, height - 2, "track")
        return [empty, label(x + width / 2, y + height / 2 + 4, "·", anchor="middle", kind="faint")]
    shade = max(0.0, min(1.0, cell.shade))
    dark = " light" if shade > 0.6 else ""
    return [
        rectangle(x + 1, y + 1, width - 2, height - 2, "plain"),
        rectangle(x + 1, y + 1, width - 2, height - 2, "first", title=cell.title, opacity=0.08 + 0.92 * shade),
        label(
            x + width / 2, y + height / 2 + (-2 if cell.small else 4), cell.text, anchor="middle", kind=f"over{dark}"
        ),
        *(
            [label(x + width / 2, y + height / 2 + 13, cell.small, anchor="middle", kind=f"small{dark}")]
            if cell.small
            else []
        ),
    ]


def bars(
    rows: Sequence[Row],
    about: str,
    *,
    unit: str,
) -> str:
    """Draw rows of horizontal bars from 0.

    unit  of their lengths, for the axis
    """
    left, right = _left([row.name for row in rows]), max([width_of(row.text) for row in rows], default=0.0) + 14
    longest = max((max(b.value, b.most or 0.0, r.of or 0.0) for r in rows for b in r.bars), default=0.0) or 1.0
    scale = (WIDTH - left - right) / longest
    parts: list[str] = []
    y = 4.0
    for row in rows:
        height = max(1, len(row.bars)) * 11.0
        parts.append(label(left - 10, y + height / 2 + 4, short(row.name, left - 20), anchor="end"))
        if row.of is not None:
            parts.append(rectangle(left, y, row.of * scale, height, "track"))
        for number, bar in enumerate(row.bars):
            at = y + 11 * number
            parts.append(rectangle(left, at + 1, bar.value * scale, 9, bar.kind, title=bar.title))
            if bar.least is not None and bar.most is not None and bar.most > bar.least:
                parts.append(line(left + bar.least * scale, at + 5.5, left + bar.most * scale, at + 5.5, "whisker"))
        parts.append(label(WIDTH - right + 8, y + height / 2 + 4, row.text, kind="small"))
        y += height + 10
    for tick, text in _marked(0.0, longest, 5):
        x = left + tick * scale
        parts[:0] = [line(x, 2, x, y - 4, "grid")]
        parts.append(label(x, y + 10, text, anchor="middle", kind="small"))
    parts.append(label(WIDTH - 2, y + 10, unit, anchor="end", kind="small"))
    return picture(WIDTH, y + 18, parts, about)


def over_time(
    points: Sequence[tuple[float, float, float]],
    about: str,
    *,
    expected: float | None,
    height: float = 220.0,
    unit: str = "rows/s",
) -> str:
    """Draw a quantity over time as steps.

    points    from second, to second, quantity in between
    expected  drawn as a broken line, where it is known
    """
    end = max((to for _, to, _ in points), default=0.0) or 1.0
    top = 1.08 * max([expected or 0.0, *(quantity for *_, quantity in points)]) or 1.0
    left, foot = 70.0, height - _FOOT
    across, up = (WIDTH - left - 20) / end, (foot - 10) / top
    parts = [
        part
        for tick, text in _marked(0.0, top, 4)
        for part in (
            line(left, foot - tick * up, WIDTH - 20, foot - tick * up, "grid"),
            label(left - 8, foot - tick * up + 4, text, anchor="end", kind="small"),
        )
    ]
    for begin, to, quantity in points:
        title = f"{figures(begin)}–{figures(to)} s: {figures(quantity)} {unit}"
        x, tall = left + begin * across, quantity * up
        parts.append(rectangle(x, foot - tall, (to - begin) * across, tall, "second", title=title))
    if expected is not None:
        parts.append(line(left, foot - expected * up, WIDTH - 20, foot - expected * up, "broken"))
    return picture(WIDTH, height, [*parts, *_seconds_axis(left, foot, across, end)], about)


def histogram(counts: Sequence[int], edges: Sequence[float], about: str, *, height: float = 170.0) -> str:
    """Draw how many values lie between each two edges: one count fewer than edges. height: in pixels."""
    most = max(counts, default=0) or 1
    left, foot, wide = 70.0, height - _FOOT, WIDTH / 2
    low, high = edges[0], edges[-1]
    across, up = (wide - left - 16) / ((high - low) or 1.0), (foot - 10) / most
    parts = [
        part
        for tick, text in _marked(0.0, most, 3)
        for part in (
            line(left, foot - tick * up, wide - 16, foot - tick * up, "grid"),
            label(left - 8, foot - tick * up + 4, text, anchor="end", kind="small"),
        )
    ]
    names = apart(edges)
    for number, (count, begin, end) in enumerate(zip(counts, edges, edges[1:], strict=False)):
        title = f"{names[number]} to {names[number + 1]}: {count:,}"
        x = left + (begin - low) * across
        parts.append(
            rectangle(x, foot - count * up, max(1.0, (end - begin) * across - 0.6), count * up, "first", title=title)
        )
    parts.append(line(left, foot, wide - 16, foot, "axis"))
    for tick, text in _marked(low, high, 4):
        x = left + (tick - low) * across
        parts.append(label(x, foot + 16, text, anchor="middle", kind="small"))
    return picture(wide, height, parts, about)


def lanes(rows: Sequence[tuple[str, Sequence[Stretch]]], end: float, about: str) -> str:
    """Draw what happened on each lane from second 0 to the end."""
    left = _left([name for name, _ in rows])
    across, foot = (WIDTH - left - 20) / (end or 1.0), _ROW * len(rows) + 4
    parts: list[str] = []
    for number, (name, stretches) in enumerate(rows):
        y = _ROW * number + 4
        parts.append(label(left - 10, y + 13, short(name, left - 20), anchor="end"))
        parts.append(rectangle(left, y + 1, end * across, _ROW - 6, "track"))
        parts += [
            rectangle(left + s.begin * across, y + 1, (s.end - s.begin) * across, _ROW - 6, s.kind, title=s.title)
            for s in stretches
        ]
    return picture(WIDTH, foot + _FOOT, [*parts, *_seconds_axis(left, foot, across, end)], about)


def keys(kinds: Sequence[tuple[str, str]]) -> str:
    """Return, as HTML, which colour means what."""
    return "".join(
        f'<span class="key"><svg width="12" height="12"><rect class="{words(kind)}" width="12" height="12"/></svg>'
        f" {words(meaning)}</span>"
        for kind, meaning in kinds
    )


def _marked(low: float, high: float, count: int) -> list[tuple[float, str]]:
    """Return round numbers from low to high, each with its text."""
    found = ticks(low, high, count)
    return list(zip(found, apart(found), strict=True))


def _left(names: Sequence[str]) -> float:
    """Return how much room the names of rows need."""
    return min(_LABELS, max([40.0, *(width_of(name) + 20 for name in names)]))


def _seconds_axis(left: float, foot: float, across: float, end: float) -> list[str]:
    """Draw an axis of seconds, or of minutes or hours where there are many."""
    divisor, unit = next(((d, u) for d, u, most in ((1, "s", 300), (60, "min", 18_000)) if end < most), (3600, "h"))
    parts = [line(left, foot, left + end * across, foot, "axis")]
    for tick, text in _marked(0.0, end / divisor, 8):
        x = left + tick * divisor * across
        parts.append(line(x, foot, x, foot + 4, "axis"))
        parts.append(label(x, foot + 17, f"{text} {unit}", anchor="middle", kind="small"))
    return parts
