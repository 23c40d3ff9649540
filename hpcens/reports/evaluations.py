"""Write an evaluation as text for a terminal: a table of sources by measures, then what follows from it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate
from math import isfinite

from hpcens.evaluation import Evaluation, Score
from hpcens.evaluation.evaluation import NEITHER, Gain, Omission, Scores, more_is_better
from hpcens.reports.stages import stage_lines

ENSEMBLE = "ensemble"
SHARES = ("accuracy", "exact_match", "iou", "dice", "f1_score")
"""Measures that are shares, whose differences are told in percentage points."""
INTERVAL = "95 % interval"
_FAIR = (0.8, 1.25)  # of spread to error
_WIDE = 100  # columns of a terminal


def evaluation_lines(evaluation: Evaluation) -> Iterator[str]:
    """Show all of an evaluation."""
    yield about(evaluation)
    yield from table_lines(evaluation)
    yield "↑ more is better, ↓ less is better; hpcens help evaluation says what each is"
    yield f"{INTERVAL}s, of draws of the rows: {'; '.join(_intervals(evaluation))}"
    if blurred := [f"{m} ± {s.error:.1g}" for m, s in evaluation.ensemble.items() if s.error]:
        yield f"taken from bins: {', '.join(blurred)}"
    yield from (gain_line(measure, gain) for measure, gain in evaluation.gains.items())
    yield from (omission_line(name, omission) for name, omission in evaluation.leave_one_out.items())
    if evaluation.leave_one_out and any(each.work is not None for each in evaluation.leave_one_out.values()):
        yield "work: share of the device time, by the speeds that the run was planned with"
    yield from _spread_lines(evaluation)
    yield from stage_lines(evaluation)
    yield from (f"note: {note}" for note in evaluation.notes)


def _spread_lines(evaluation: Evaluation) -> Iterator[str]:
    """Say in words what the spread of the members is worth as an uncertainty, where it is far from the error."""
    score = evaluation.ensemble.get("spread_to_error")
    if score is not None and not _FAIR[0] <= score.value <= _FAIR[1]:
        which = "smaller than the error: overconfident" if score.value < 1 else "larger than the error: too careful"
        yield f"spread_to_error {number(score.value)}: the spread of the members is {which}"


def about(evaluation: Evaluation) -> str:
    """Say which rows were held against which labels."""
    rows = evaluation.rows
    left = ((rows.masked, "masked"), (rows.unscored, "without finite outputs"), (rows.unlabelled, "without a label"))
    more = "".join(f", {count:,} {why}" for count, why in left if count)
    points = f", {rows.points:,} labels" if rows.points != rows.used else ""
    return f"{rows.used:,} of {rows.total:,} rows against labels {evaluation.labels.source}{points}{more}"


def table_lines(evaluation: Evaluation) -> Iterator[str]:
    """Show members and ensemble, a line each, by measure; several tables where one were too wide for a terminal."""
    names = max(map(len, [ENSEMBLE, *evaluation.members]))
    left = [*evaluation.measures]
    while left:
        widths = (max(len(measure) + 2, 9) + 2 for measure in left)
        count = sum(1 for width in accumulate(widths) if width <= _WIDE - names - 2)
        yield from _table(evaluation, left[: max(1, count)])
        left = left[max(1, count) :]


def _table(evaluation: Evaluation, measures: Sequence[str]) -> Iterator[str]:
    rows = [[name, *cells(scores, measures)] for name, scores in evaluation.members.items()]
    rows.append([ENSEMBLE, *cells(evaluation.ensemble, measures)])
    heads = ["", *(f"{measure} {direction(measure)}".rstrip() for measure in measures)]
    widths = [max(len(row[column]) for row in [heads, *rows]) for column in range(len(heads))]
    for row in [heads, *rows]:
        first, *rest = (
            text.ljust(width) if not column else text.rjust(width)
            for column, (text, width) in enumerate(zip(row, widths, strict=True))
        )
        yield "  ".join([f"  {first}", *rest])


def direction(measure: str) -> str:
    """Return an arrow: upwards where more is better, downwards where less is; nothing where neither is."""
    return "" if measure in NEITHER else "↑" if more_is_better(measure) else "↓"


def cells(scores: Scores, measures: Sequence[str]) -> list[str]:
    """Write the scores of one source, a text a measure; empty where it has none."""
    return [number(score.value) if (score := scores.get(measure)) else "" for measure in measures]


def number(value: float) -> str:
    """Write a measure with as many digits as people compare."""
    if not isfinite(value):
        return "undefined"
    if value == 0 or 0.01 <= abs(value) < 1000:
        return f"{value:.4f}"
    return f"{value:.3g}" if abs(value) < 1 else f"{value:.6g}"


def interval(score: Score) -> str:
    """Write an interval; empty where there is none."""
    return "" if score.low is None or score.high is None else f"{number(score.low)} to {number(score.high)}"


def _intervals(evaluation: Evaluation) -> Iterator[str]:
    for measure, score in evaluation.ensemble.items():
        if text := interval(score):
            yield f"{measure} {text}"


def gain_line(measure: str, gain: Gain) -> str:
    """Say whether the ensemble is better than its best member."""
    verdict = {True: "better than", False: "worse than", None: "not significantly different from"}[gain.beats(measure)]
    difference = change(measure, gain.difference)
    return f"{measure}: the ensemble is {verdict} its best member, {gain.member}: {difference}"


def omission_line(name: str, omission: Omission) -> str:
    """Say what leaving a member out costs, and what work it saves."""
    work = "" if omission.work is None else f", {100 * omission.work:.0f} % less work"
    changes = ", ".join(f"{measure} {change(measure, score)}" for measure, score in omission.differences.items())
    return f"drop {name}: {changes}{work}"


def change(measure: str, score: Score) -> str:
    """Write a difference with its interval."""
    share = measure in SHARES or measure.endswith("_accuracy")
    factor, unit = (100.0, " points") if share else (1.0, "")

    def signed(value: float) -> str:
        rounded = f"{factor * value:+.2f}" if share else f"{value:+.4f}"
        return rounded.replace("-", "−")

    if score.low is None or score.high is None:
        return f"{signed(score.value)}{unit}"
    return f"{signed(score.value)}{unit} ({signed(score.low)} to {signed(score.high)})"
