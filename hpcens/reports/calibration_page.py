"""Draw a calibration as one page: what was fitted, reliability before and after, and coverage as promised and found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hpcens.evaluation import Calibrated
from hpcens.reports.calibrations import fitted_lines, judged_line
from hpcens.reports.curves import reliability
from hpcens.reports.evaluations import INTERVAL, cells, change, interval, number
from hpcens.reports.page import figure, page, paragraphs, scoped, side_by_side, table
from hpcens.reports.svg import words

_COVERAGES = ("set_coverage", "interval_coverage")


def draw(calibrated: Calibrated) -> str:
    """Return the page."""
    return page(f"{Path(calibrated.result).name}: calibration", _parts(calibrated))


def fragment(calibrated: Calibrated) -> str:
    """Return the part of the page that shows it, for a page of somebody else's, as a notebook is."""
    return scoped(_parts(calibrated))


def _parts(calibrated: Calibrated) -> list[str]:
    lines = [*fitted_lines(calibrated), judged_line(calibrated), *(f"note: {note}" for note in calibrated.notes)]
    heading = f"<h1>{words(Path(calibrated.result).name)}</h1>"
    drawn = [_scores(calibrated), _reliability(calibrated), _coverage(calibrated), _provenance(calibrated)]
    return [heading, paragraphs(lines), *filter(None, drawn)]


def _scores(calibrated: Calibrated) -> str:
    if not calibrated.before:
        return ""
    rows = [
        [
            measure,
            *cells(calibrated.before, [measure]),
            *cells(calibrated.after, [measure]),
            change(measure, calibrated.changes[measure]) if measure in calibrated.changes else "",
        ]
        for measure in calibrated.before
    ]
    caption = "The ensemble as it is and calibrated, and by how much that changes, with its 95 % interval."
    return figure("Before and after", caption, table(("", "as it is", "calibrated", "change"), rows))


def _reliability(calibrated: Calibrated) -> str:
    before, after = (_bins(calibrated, name) for name in ("before", "after"))
    if not before or not after:
        return ""
    drawings = [("as it is", reliability(before)), ("calibrated", reliability(after))]
    caption = (
        "How often the ensemble is right, by how sure it says it is; on the broken line it says so rightly, below it is"
        " too sure. A larger dot stands for more points."
    )
    return figure("Reliability", caption, side_by_side(drawings))


def _bins(calibrated: Calibrated, name: str) -> Sequence[Mapping[str, Any]]:
    bins: Sequence[Mapping[str, Any]] = calibrated.reliability.get(name, ())
    return bins


def _coverage(calibrated: Calibrated) -> str:
    after, coverage = calibrated.after, calibrated.coverage
    if coverage is None:
        return ""
    found = [measure for measure in _COVERAGES if measure in after]
    rows = [[m, f"{100 * coverage:.6g} %", f"{100 * after[m].value:.2f} %", interval(after[m])] for m in found]
    sizes = [m for m in ("set_size", "empty_sets", "interval_width") if m in after]
    rows += [[m, "", number(after[m].value), interval(after[m])] for m in sizes]
    caption = (
        "In what share of the rows sets or intervals were to hold the truth, and in what share they do; and how large"
        " they are. The promise is of all rows together, and of rows like those that were ranked."
    )
    return figure("Coverage", caption, table(("", "promised", "measured", INTERVAL), rows))


def _provenance(calibrated: Calibrated) -> str:
    rows = [
        ("result", calibrated.result),
        ("fingerprint", calibrated.fingerprint[:12]),
        ("labels", calibrated.labels),
        ("method", calibrated.method),
        ("digest", calibrated.calibration.digest[:12]),
    ]
    return figure("What it was made of", "The same command gives the same again.", table(("", ""), rows))
