"""Write a selection as text for a terminal: what was chosen, what it is worth, and quality against cost."""

from __future__ import annotations

from collections.abc import Iterator

from hpcens.evaluation import Score, Selection
from hpcens.evaluation.selection import Step
from hpcens.reports.evaluations import INTERVAL, change, interval, number

STEPS = ("members", "work", "device-hours")
"""Heads of what a step costs."""


def selection_lines(selection: Selection) -> Iterator[str]:
    """Show all of a selection."""
    yield (
        f"chosen on {selection.chosen_on:,} rows and judged on {selection.judged_on:,} others,"
        f" against labels {selection.labels}"
    )
    budget = "" if selection.budget is None else f", within {selection.budget:g} device-hours"
    yield f"chosen by {selection.method}{budget}: {weights_of(selection.chosen)}"
    yield from _table(["", selection.measure, INTERVAL], scores_of(selection))
    yield from verdicts(selection)
    yield "quality against cost:"
    yield from _table(
        [*STEPS, selection.measure, INTERVAL, "weights"],
        [step_cells(step, chosen=step.weights == selection.weights) for step in selection.frontier],
    )
    yield f"{selection.measure}: less is better, on the rows that nothing was chosen on; on those that were, none of"
    yield "these was beaten at the same work or less: here one may be, by chance"
    if selection.chosen.hours is not None:
        yield "work: share of the device time of all members; device-hours: for the rows of the result; by the"
        yield "speeds of its plan"
    yield from (f"note: {note}" for note in selection.notes)


def scores_of(selection: Selection) -> list[list[str]]:
    """Return what was chosen, all members and the best of them, each with its score and its interval."""
    return [
        ["chosen", *_score(selection.chosen.score)],
        ["all members", *_score(selection.all_members.score)],
        [f"{selection.best_member}, the best there of single members", *_score(selection.best)],
    ]


def verdicts(selection: Selection) -> Iterator[str]:
    """Say whether what was chosen is better than all members, and than the best one."""
    yield _verdict("all members", selection.measure, selection.less_all_members)
    if [*selection.weights] != [selection.best_member]:
        yield _verdict("the best member", selection.measure, selection.less_best_member)


def _score(score: Score) -> list[str]:
    return [number(score.value), interval(score)]


def weights_of(step: Step) -> str:
    """Write the members of a step with their weights."""
    return ", ".join(f"{name} {weight:g}" for name, weight in step.weights.items())


def step_cells(step: Step, *, chosen: bool) -> list[str]:
    """Return how many members a step has, what they cost (`STEPS`), its score, its interval, and the weights."""
    work = "" if step.work is None else f"{100 * step.work:.0f} %"
    hours = "" if step.hours is None else f"{step.hours:.3g}"
    mark = "  ← chosen" if chosen else ""
    return [str(len(step.weights)), work, hours, *_score(step.score), f"{weights_of(step)}{mark}"]


def _verdict(other: str, measure: str, difference: Score) -> str:
    if difference.low is None or difference.high is None or difference.low <= 0 <= difference.high:
        verdict = "not significantly different from"
    else:
        verdict = "better than" if difference.high < 0 else "worse than"
    return f"what was chosen is {verdict} {other}: {measure} {change(measure, difference)}"


def _table(heads: list[str], rows: list[list[str]]) -> Iterator[str]:
    """Show a table, without the columns that are empty in all rows."""
    shown = [column for column in range(len(heads)) if any(row[column] for row in rows)]
    widths = {column: max(len(row[column]) for row in [heads, *rows]) for column in shown}
    for row in [heads, *rows]:
        yield "  " + "  ".join(row[column].ljust(widths[column]) for column in shown).rstrip()
