"""Write a calibration as text for a terminal: what was fitted, on which rows, and what it is worth on others."""

from __future__ import annotations

from collections.abc import Iterator

from hpcens.evaluation import Calibrated, Score
from hpcens.reports.evaluations import cells, change, interval, number
from hpcens.shell import listed


def calibration_lines(calibrated: Calibrated) -> Iterator[str]:
    """Show all of a calibration."""
    yield from fitted_lines(calibrated)
    yield judged_line(calibrated)
    measures = [*calibrated.before]
    if measures:
        heads = ["", *measures]
        rows = [["as it is", *cells(calibrated.before, measures)], ["calibrated", *cells(calibrated.after, measures)]]
        widths = [max(len(row[column]) for row in [heads, *rows]) for column in range(len(heads))]
        for row in [heads, *rows]:
            yield "  " + "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()
    yield from (f"{m}: calibrated {change(m, score)}, less is better" for m, score in _losses(calibrated))
    yield from _covering(calibrated)
    yield from (f"note: {note}" for note in calibrated.notes)


def judged_line(calibrated: Calibrated) -> str:
    """Say on which rows a calibration was judged."""
    where = "the rows that it was fitted on: in sample" if calibrated.in_sample else "rows that it was not fitted on"
    return f"judged on {calibrated.judged:,} rows against labels {calibrated.labels}, {where}"


def fitted_lines(calibrated: Calibrated) -> Iterator[str]:
    """Say what was fitted, and on how many rows."""
    calibration = calibrated.calibration
    if calibrated.temperature is not None:
        sure = "less sure" if calibrated.temperature > 1 else "surer"
        yield (
            f"temperature {calibrated.temperature:.6g}, which makes predictions {sure}; fitted on"
            f" {calibrated.fitted:,} rows"
        )
    if calibration.coverage is not None:
        share = f"{100 * calibration.coverage:.6g} %"
        thresholds = calibration.thresholds
        if calibration.covering == "set":
            least = f"classes of probability {number(1 - thresholds[0])} or more"
            yield f"sets that hold the true class in {share} of rows: {least}; ranked on {calibrated.ranked:,} rows"
        else:
            shown = listed([number(half) for half in thresholds])
            what = f"intervals that hold the true value in {share} of rows: ± {shown}"
            yield f"{what}; ranked on {calibrated.ranked:,} rows"


def _losses(calibrated: Calibrated) -> Iterator[tuple[str, Score]]:
    for measure in ("log_loss", "brier_score"):
        if measure in calibrated.changes:
            yield measure, calibrated.changes[measure]


def _covering(calibrated: Calibrated) -> Iterator[str]:
    after, coverage = calibrated.after, calibrated.coverage
    for measure in ("set_coverage", "interval_coverage"):
        if measure in after and coverage is not None:
            drawn = interval(after[measure])
            promised = f"promised {100 * coverage:.6g} %, measured {100 * after[measure].value:.2f} %"
            yield f"{measure}: {promised}" + (f" (95 % interval: {drawn})" if drawn else "")
    for measure in ("set_size", "empty_sets", "interval_width"):
        if measure in after:
            yield f"{measure}: {number(after[measure].value)} ({interval(after[measure])})"
