"""What a run did as sections of a page: ranks over time, rows/s, members on devices, labels and uncertainties."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import TypeVar

import numpy as np

from hpcens.files import MALFORMED
from hpcens.reports.charts import Bar, Row, Stretch, bars, histogram, keys, lanes, over_time
from hpcens.reports.page import figure, side_by_side
from hpcens.reports.text import devices_phrase, figures, grouped, rate, that_ran
from hpcens.reports.values import Sample, label_counts, percent
from hpcens.runs import (
    Event,
    PlanMade,
    ProfilingBegan,
    ProfilingEnded,
    ProgressMade,
    Report,
    WorldFormed,
)
from hpcens.vocabulary import Array

_LANES = 48
_INSTANCES = 60
_LABELS = 20
_BINS = 40
_STEPS = 120
# Spans of a trace that are shorter than this part of the whole are drawn together with their neighbours.
_FINEST = 1 / 900

# Name of what a rank's thread does → colour and words.
_DOES = {
    "Predict": ("first", "computed"),
    "Read": ("third", "read"),
    "Write": ("second", "combined and wrote"),
    "Flush": ("seventh", "synced to disk"),
    "wait for input": ("waiting", "waited for input"),
    "wait to hand over": ("sixth", "waited to hand over"),
}
_OTHER = ("eighth", "other work")
_PARTS: tuple[tuple[type[Event], str, str], ...] = (
    (WorldFormed, "launching", "launching the ranks"),
    (ProfilingBegan, "importing", "importing, and seeing what is not measured"),
    (ProfilingEnded, "fifth", "measuring members"),
    (PlanMade, "fourth", "planning"),
    (ProgressMade, "loading", "loading members"),
)

Item = TypeVar("Item")
Spans = Mapping[str, Sequence[Stretch]]
"""Rank, in words → what it did from when to when."""


def ranks_figure(began: float, events: Sequence[Event], report: Report, trace: Spans) -> str:
    """Draw what each rank did from the beginning of a start to its end.

    began  seconds since 1970 at which the start began
    trace  what each rank did when, where that was recorded; else shares of its time are drawn
    """
    start, ready = _start_stretches(began, events)
    last = (stretches[-1].end for stretches in trace.values() if stretches)
    end = max([events[-1].time - began, ready + report.seconds, *last])
    if trace:
        rows = [(name, [*start, *stretches]) for name, stretches in _thinned(list(trace.items()))]
        how = "While rows are scored every span is drawn where it happened."
    else:
        ranks = [(rank.role, rank.spent) for rank in report.ranks]
        rows = [(name, [*start, *_shares(spent, ready, report.seconds)]) for name, spent in _thinned(ranks)]
        how = (
            "While rows are scored, what a rank did is put together by kind, so that lengths and not places are right;"
            " a run with --trace TRACE.JSON keeps when each of it happened."
        )
    left_out = max(len(trace), len(report.ranks)) - len(rows)
    more = f" {left_out:,} further ranks are not drawn." if left_out > 0 else ""
    caption = f"A lane for each rank, from the beginning of the start to its end; all ranks start together. {how}{more}"
    drawn = {(stretch.kind, stretch.title.partition(":")[0]) for _, stretches in rows for stretch in stretches}
    legend = keys(sorted(drawn, key=lambda key: key[1]))
    return figure("Ranks over time", caption, lanes(rows, end, "what each rank did over time"), keys=legend)


def _thinned(ranks: Sequence[Item]) -> list[Item]:
    """Return as many ranks as are drawn: the first, which read and write, and some of the others."""
    if len(ranks) <= _LANES:
        return list(ranks)
    first, others = _LANES // 4, _LANES - _LANES // 4
    chosen = np.linspace(first, len(ranks) - 1, others).astype(int)
    return [*ranks[:first], *(ranks[int(place)] for place in chosen)]


def _start_stretches(began: float, events: Sequence[Event]) -> tuple[list[Stretch], float]:
    """Return what the time until the first batch went into, and how long it was."""
    moments: dict[type[Event], float] = {}
    for event in events:
        moments.setdefault(type(event), event.time - began)
    stretches, last = [], 0.0
    for kind, colour, what in _PARTS:
        if kind in moments:
            stretches.append(Stretch(last, moments[kind], colour, f"{what}: {figures(moments[kind] - last)} s"))
            last = moments[kind]
    return stretches, last


def _shares(spent: Mapping[str, float], begin: float, seconds: float) -> list[Stretch]:
    """Return what a rank did, the longest first, one after the other."""
    stretches = []
    for name in sorted(spent, key=lambda name: -spent[name]):
        colour, what = _DOES.get(name, _OTHER)
        share = 100 * spent[name] / seconds if seconds else 0.0
        title, end = f"{what}: {figures(spent[name])} s, {share:.0f} %", begin + spent[name]
        stretches.append(Stretch(begin, end, colour, title))
        begin = end
    return stretches


def read_trace(path: Path | None, began: float) -> dict[str, list[Stretch]]:
    """Read what a start's ranks did when, if it was recorded; empty where it was not, or the file is of another start.

    began  seconds since 1970 at which the start began
    """
    try:
        raw = json.loads(path.read_text())["traceEvents"] if path is not None else []
        names = {e["pid"]: str(e["args"]["name"]) for e in raw if e.get("name") == "process_name"}
        spans = [e for e in raw if e.get("ph") == "X"]
        if not spans or min(e["ts"] for e in spans) / 1e6 < began:
            return {}
        end = max(e["ts"] + e["dur"] for e in spans) / 1e6 - began
        found: dict[str, list[Stretch]] = {name: [] for name in names.values()}
        for event in spans:
            begin = event["ts"] / 1e6 - began
            rank, name = names[event["pid"]], str(event["name"])
            _join(found[rank], _deed(rank, name), begin, begin + event["dur"] / 1e6, end * _FINEST)
        return found
    except (OSError, *MALFORMED):
        return {}


def _deed(rank: str, name: str) -> tuple[str, str]:
    """Return colour and words of a span: on a device it has the name of the member that was computed."""
    return _DOES.get(name, _DOES["Predict"] if ": device " in rank else _OTHER)


def _join(lane: list[Stretch], deed: tuple[str, str], begin: float, end: float, finest: float) -> None:
    """Add a span to a lane; where it is of the same kind as the one before and follows at once, as one with it."""
    colour, what = deed
    before = lane[-1] if lane else None
    if before is not None and before.kind == colour and begin - before.end < finest:
        lane[-1] = Stretch(before.begin, end, colour, what)
    elif before is None or end - begin >= finest or before.end - begin < -finest:
        lane.append(Stretch(begin, end, colour, what))


def speed_figure(events: Sequence[Event], expected: float | None) -> str:
    """Draw rows/s over the time of scoring beside those predicted; empty where there was no progress."""
    progress = [event for event in events if isinstance(event, ProgressMade)]
    if len(progress) < 2 or progress[-1].rows_passed <= progress[0].rows_passed:
        return ""
    zero, finest = progress[0].time, (progress[-1].time - progress[0].time) / _STEPS
    points, last = [], progress[0]
    for event in progress[1:]:
        rows, seconds = event.rows_passed - last.rows_passed, event.time - last.time
        if rows > 0 and seconds >= finest and seconds > 0:
            points.append((last.time - zero, event.time - zero, rows / seconds))
            last = event
    caption = "Rows that became durable per second, from the first batch on. Groups of them are synced at once."
    legend = [("second", "measured"), *([("first", f"broken line: predicted, {rate(expected)}")] if expected else [])]
    drawing = over_time(points, "rows per second over time", expected=expected)
    return figure("Rows/s over time", caption, drawing, keys=keys(legend))


def instances_figure(report: Report) -> str:
    """Draw planned beside measured rows/s of each member on each device, equal ones together; empty without any."""
    groups = grouped(that_ran(report), lambda i: (i.member, i.batch, i.runtime, i.phase, i.speed))
    if not groups:
        return ""
    rows = []
    for alike in groups[:_INSTANCES]:
        first, speeds = alike[0], [instance.measured_speed or 0.0 for instance in alike]
        name = f"{first.member} on {devices_phrase([instance.device for instance in alike])}"
        middle = median(speeds)
        drawn = [
            Bar(first.speed, "first", f"planned: {rate(first.speed)}, alone on the device"),
            Bar(middle, "second", f"measured: {rate(middle)} while it ran", min(speeds), max(speeds)),
        ]
        rows.append(Row(name, drawn, f"{figures(first.speed)} → {figures(middle)}"))
    more = f" {len(groups) - _INSTANCES} more are not drawn." if len(groups) > _INSTANCES else ""
    caption = (
        "Rows/s of each member on each device while it ran there. Equal ones are one row: their median, and a thin line"
        f" from the slowest to the fastest.{more}"
    )
    legend = keys([("first", "planned"), ("second", "measured")])
    return figure(
        "Planned and measured", caption, bars(rows, "planned and measured rows/s", unit="rows/s"), keys=legend
    )


def values_figures(found: Sample) -> list[str]:
    """Draw how often each label is, and how predictions and uncertainties are distributed."""
    sections = []
    of = "" if found.read == found.rows else f" Of {found.read:,} rows, spread over all {found.rows:,}."
    counts = label_counts(found)
    if counts:
        whole = sum(counts.values())
        shown = list(counts.items())[:_LABELS]
        rows = [Row(n, [Bar(c, "first", f"{c:,}")], f"{c:,} · {percent(c / whole)}") for n, c in shown]
        more = f" The {_LABELS} most frequent of {len(counts):,}." if len(counts) > _LABELS else ""
        caption = f"How often each class is the ensemble's label.{more}{of}"
        sections.append(figure("Labels", caption, bars(rows, "rows of each label", unit="rows")))
    drawings = [(name, _histogram(values, name)) for name, values in _distributions(found) if _some(values)]
    if drawings:
        caption = f"Across: the value. Up: how many have it.{of}"
        sections.append(figure("Predictions and uncertainties", caption, side_by_side(drawings)))
    return sections


def _distributions(found: Sample) -> list[tuple[str, Array]]:
    units = {name: str(output.attributes.get("units", "")) for name, output in found.outputs.items()}
    drawn = []
    if (prediction := found.arrays.get("prediction")) is not None:
        axis = found.outputs["prediction"].class_axis
        if axis is not None and found.labels is not None and prediction.shape[axis]:
            drawn.append(("prediction: the largest of the classes", prediction.max(axis)))
        else:
            drawn.append(("prediction", prediction))
    for name, values in found.uncertainties.items():
        unit = f" ({units[name]})" if units.get(name, "1") not in ("1", "") else ""
        drawn.append((name.replace("_", " ") + unit, values))
    return drawn


def _some(values: Array) -> bool:
    return bool(np.isfinite(values).any())


def _histogram(values: Array, name: str) -> str:
    finite = values[np.isfinite(values)].astype(np.float64)
    counts, edges = np.histogram(finite, _BINS)
    return histogram(counts.tolist(), edges.tolist(), f"distribution of {name}")
