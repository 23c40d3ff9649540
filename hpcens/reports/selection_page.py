"""Draw a selection as one page: what was chosen and what it is worth, quality against cost, every step of that."""

from __future__ import annotations

from pathlib import Path

from hpcens.evaluation import Selection
from hpcens.evaluation.selection import Step
from hpcens.reports.charts import keys
from hpcens.reports.curves import Dot, curve
from hpcens.reports.evaluations import INTERVAL, interval, number
from hpcens.reports.page import figure, page, paragraphs, scoped, table
from hpcens.reports.selections import STEPS, scores_of, step_cells, verdicts, weights_of
from hpcens.reports.svg import words

_DOT = 4.0  # its radius


def draw(selection: Selection) -> str:
    """Return the page."""
    return page(f"{Path(selection.result).name}: selection", _parts(selection))


def fragment(selection: Selection) -> str:
    """Return the part of the page that shows it, for a page of somebody else's, as a notebook is."""
    return scoped(_parts(selection))


def _parts(selection: Selection) -> list[str]:
    budget = "" if selection.budget is None else f", within {selection.budget:g} device-hours"
    lines = [
        f"Chosen by {selection.method}{budget}: {weights_of(selection.chosen)}",
        f"Chosen on {selection.chosen_on:,} rows and judged on {selection.judged_on:,} others, against labels"
        f" {selection.labels}",
        *verdicts(selection),
        *(f"note: {note}" for note in selection.notes),
    ]
    heading = f"<h1>{words(Path(selection.result).name)}</h1>"
    return [heading, paragraphs(lines), _worth(selection), _against_cost(selection), _steps(selection)]


def _worth(selection: Selection) -> str:
    caption = f"{selection.measure}, of which less is better, on the rows that nothing was chosen on."
    return figure("What it is worth", caption, table(("", selection.measure, INTERVAL), scores_of(selection)))


def _against_cost(selection: Selection) -> str:
    steps = [*selection.frontier, selection.all_members]
    if all(step.hours is not None for step in steps):
        across, costs = "device-hours, for the rows of the result", [step.hours or 0.0 for step in steps]
    elif all(step.work is not None for step in steps):
        across, costs = "share of the device time of all members", [step.work or 0.0 for step in steps]
    else:
        across, costs = "members", [float(len(step.weights)) for step in steps]
    *frontier, everyone = [_dot(step, cost, selection) for step, cost in zip(steps, costs, strict=True)]
    caption = (
        f"{selection.measure} on the rows that nothing was chosen on, with its 95 % interval, by what the members of a"
        " step cost. On the rows that were chosen on, no step was beaten at the same cost or less: here one may be, by"
        " chance."
    )
    kinds = [("first", "a step"), ("second", "what was chosen"), ("third", "all members, as the result combines them")]
    drawing = curve(
        frontier, "quality against cost", across=across, up=selection.measure, close=True, beside=[everyone]
    )
    return figure("Quality against cost", caption, drawing, keys=keys(kinds))


def _dot(step: Step, cost: float, selection: Selection) -> Dot:
    kind = "third" if step is selection.all_members else "second" if step.weights == selection.weights else "first"
    score = step.score
    title = f"{weights_of(step)}: {number(score.value)} ({interval(score)})"
    return Dot(cost, score.value, _DOT, title, kind, low=score.low, high=score.high)


def _steps(selection: Selection) -> str:
    rows = [step_cells(step, chosen=step.weights == selection.weights) for step in selection.frontier]
    caption = (
        "Work: share of the device time of all members; device-hours: for the rows of the result; by the speeds of its"
        " plan, where it keeps one."
    )
    return figure("Step by step", caption, table((*STEPS, selection.measure, INTERVAL, "weights"), rows))
