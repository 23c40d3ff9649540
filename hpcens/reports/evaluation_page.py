"""Draw an evaluation as one page: figures with intervals, reliability, confusion, coverage, each member's worth."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from hpcens.evaluation import Evaluation
from hpcens.reports.charts import Cell, heat_map
from hpcens.reports.curves import Dot, curve, reliability
from hpcens.reports.evaluations import ENSEMBLE, INTERVAL, about, cells, change, gain_line, interval, number
from hpcens.reports.page import figure, page, paragraphs, scoped, table
from hpcens.reports.svg import words

_MOST_DRAWN = 24  # classes of a confusion matrix


def draw(evaluation: Evaluation) -> str:
    """Return the page."""
    name = Path(evaluation.result).name
    return page(f"{name}: evaluation", _parts(evaluation))


def fragment(evaluation: Evaluation) -> str:
    """Return the part of the page that shows it, for a page of somebody else's, as a notebook is."""
    return scoped(_parts(evaluation))


def _parts(evaluation: Evaluation) -> list[str]:
    heading = f"<h1>{words(Path(evaluation.result).name)}</h1>"
    drawn = [_scores(evaluation), _worth(evaluation), _reliability(evaluation), _confusion(evaluation)]
    drawn += [_spread(evaluation), _coverage(evaluation), _provenance(evaluation)]
    return [heading, paragraphs([about(evaluation), *_verdicts(evaluation)]), *filter(None, drawn)]


def _verdicts(evaluation: Evaluation) -> Iterator[str]:
    yield from (gain_line(measure, gain) for measure, gain in evaluation.gains.items())


def _scores(evaluation: Evaluation) -> str:
    sources = [*evaluation.members.values(), evaluation.ensemble]
    rows = [
        [
            measure,
            *(cells(scores, [measure])[0] for scores in sources),
            interval(score),
            f"± {score.error:.1g}" if score.error else "",
        ]
        for measure, score in evaluation.ensemble.items()
    ]
    caption = (
        "Members and ensemble, held against the labels. Beside them: where 95 % of the ensemble's values lie if rows"
        " are drawn again, and by how much its value may differ that is taken from bins."
    )
    return figure("How good", caption, table(("", *evaluation.members, ENSEMBLE, INTERVAL, "bins"), rows))


def _worth(evaluation: Evaluation) -> str:
    omissions = evaluation.leave_one_out
    if not omissions:
        return ""
    measures = list(next(iter(omissions.values())).differences)
    rows = [
        [
            name,
            "" if omission.work is None else f"{100 * omission.work:.0f} %",
            *(change(measure, omission.differences[measure]) for measure in measures),
        ]
        for name, omission in omissions.items()
    ]
    caption = (
        "What the ensemble's figures become without a member, less what they are, with its 95 % interval;"
        " and which share of the device time it takes, by the plan."
    )
    return figure("What each member is worth", caption, table(("without", "work", *measures), rows))


def _reliability(evaluation: Evaluation) -> str:
    bins = evaluation.curves.get("reliability", ())
    if not bins:
        return ""
    error = evaluation.ensemble["calibration_error"].value
    caption = (
        "How often the ensemble is right, by how sure it says it is; on the broken line it says so rightly, below it is"
        f" too sure. A larger dot stands for more rows. The mean distance, calibration_error, is {number(error)}."
    )
    return figure("Reliability", caption, reliability(bins))


def _confusion(evaluation: Evaluation) -> str:
    matrix = evaluation.curves.get("confusion", ())
    if not matrix:
        return ""
    classes, counts = list(evaluation.classes), evaluation.of_class
    shown = list(range(len(classes)))
    more = ""
    if len(shown) > _MOST_DRAWN:
        missed = {index: counts[index] - matrix[index][index] for index in shown}
        shown = sorted(sorted(shown, key=lambda index: -missed[index])[:_MOST_DRAWN])
        more = f" Of {len(classes)} classes the {_MOST_DRAWN} are drawn of which most are missed."
    rows = [
        (classes[true], [_cell(matrix[true][guess], counts[true], classes[true], classes[guess]) for guess in shown])
        for true in shown
    ]
    caption = (
        f"Rows: what the labels say. Columns: what the ensemble says. The darker, the larger part of the row.{more}"
    )
    drawing = heat_map([classes[index] for index in shown], rows, "confusion matrix", least=44.0, height=28.0)
    return figure("Confusion", caption, drawing)


def _cell(count: int, of_class: int, true: str, guess: str) -> Cell | None:
    if not count:
        return None
    return Cell(count / max(1, of_class), f"{count:,}", "", f"{count:,} of {of_class:,} {true} are taken for {guess}")


def _spread(evaluation: Evaluation) -> str:
    parts = evaluation.curves.get("spread", ())
    if not parts:
        return ""
    dots = [
        Dot(p["spread"], p["error"], 4.0, f"{p['points']:,}: spread {p['spread']:.4g}, error {p['error']:.4g}")
        for p in parts
    ]
    drawing = curve(dots, "error against spread", across="spread", up="error", diagonal=True)
    caption = (
        "Root mean squared error of numbers of like spread (root mean variance over the members), in parts of about as"
        " many. On the broken line the spread says how far off the ensemble is; above it the members agree too much."
    )
    return figure("Error against spread", caption, drawing)


def _coverage(evaluation: Evaluation) -> str:
    points = evaluation.curves.get("coverage", ())
    if not points:
        return ""
    values = "spread" in evaluation.curves
    what = "mean squared error" if values else "share that is wrong"
    dots = [
        Dot(p["coverage"], p["risk"], 2.0, f"{100 * p['coverage']:.0f} % of the rows: {p['risk']:.4g}") for p in points
    ]
    drawing = curve(dots, "risk by coverage", across="share of rows that are kept", up=what)
    caption = (
        f"The {what} of the rows of which the ensemble is surest, as more of them are kept. The lower it begins, the"
        f" better its doubts point to its errors. The mean over all shares, aurc, is"
        f" {number(evaluation.ensemble['aurc'].value)}."
    )
    return figure("Coverage", caption, drawing)


def _provenance(evaluation: Evaluation) -> str:
    labels = evaluation.labels
    rows = [
        ("result", evaluation.result),
        ("fingerprint", evaluation.fingerprint[:12]),
        ("labels", labels.source),
        ("labels are of", "the dataset: selection and limit were followed" if labels.follow else "the result"),
        ("digest of the labels", labels.digest[:12]),
        *(("note", note) for note in evaluation.notes),
    ]
    return figure("What it was made of", "The same command gives the same again.", table(("", ""), rows))
