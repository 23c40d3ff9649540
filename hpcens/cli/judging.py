"""Verbs that hold a result against labels: evaluate, select, calibrate."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterable
from typing import Any, Protocol

from hpcens import api
from hpcens.api.selected import require_place
from hpcens.cli.results import refuse_many
from hpcens.cli.terminal import say, short, show
from hpcens.errors import COMPLETE
from hpcens.files import require_folder, require_new, write_atomically
from hpcens.reports.calibrations import calibration_lines
from hpcens.reports.evaluations import evaluation_lines
from hpcens.reports.page import require_page
from hpcens.reports.selections import selection_lines


class _Figures(Protocol):
    def to_json(self) -> str: ...


def evaluate(options: Namespace) -> int:
    """Hold a result against labels: print the table, write JSON and page."""
    _require_places(options)
    evaluation = api.evaluate(
        options.result,
        **_labels(options),
        top=options.top,
        ensemble_only=options.ensemble_only,
    )
    _show(evaluation, evaluation_lines(evaluation), options)
    if options.output is not None:
        write_atomically(options.output, evaluation.to_json())
    if options.html is not None:
        evaluation.write_html(options.html)
    for path in filter(None, (options.output, options.html)):
        say(f"→ {short(path)}", to_stderr=options.json)
    return COMPLETE


def select(options: Namespace) -> int:
    """Choose members and weights: print the table, write the configuration."""
    _require_places(options)
    with api.open_result(options.result) as result:  # known now, not after the passes over the result
        require_place(options.output, result.config)
    selection = api.select(
        options.result,
        **_labels(options),
        by=options.by,
        method=options.method,
        holdout=options.holdout,
        split=options.split,
        budget=options.budget,
    )
    _show(selection, selection_lines(selection), options)
    selection.write_yaml(options.output)
    if options.html is not None:
        selection.write_html(options.html)
    for path in filter(None, (options.output, options.html)):
        say(f"→ {short(path)}", to_stderr=options.json)
    return COMPLETE


def calibrate(options: Namespace) -> int:
    """Fit a temperature, sets or intervals: print what they are worth, write the file that a configuration names."""
    _require_places(options)
    require_new(options.output)
    calibrated = api.calibrate(
        options.result,
        **_labels(options),
        coverage=options.coverage,
        holdout=options.holdout,
        split=options.split,
        seed=options.seed,
    )
    _show(calibrated, calibration_lines(calibrated), options)
    calibrated.write(options.output)
    if options.html is not None:
        calibrated.write_html(options.html)
        say(f"→ {short(options.html)}", to_stderr=options.json)
    next_line = f"→ {short(options.output)}; next: calibration: {short(options.output)} in the YAML of run or combine"
    say(next_line, to_stderr=options.json)
    return COMPLETE


def _require_places(options: Namespace) -> None:
    """Refuse several results, and files that cannot be written."""
    refuse_many(options.result)
    if options.html is not None:
        require_page(options.html)
    for path in filter(None, (options.output, options.html)):
        require_folder(path)


def _labels(options: Namespace) -> dict[str, Any]:
    """Return what all of these verbs are told of labels, as parameters of the API."""
    return {name: getattr(options, name) for name in ("labels", "labels_column", "groups", "ignore")}


def _show(figures: _Figures, lines: Iterable[str], options: Namespace) -> None:
    """Print figures as JSON where that is asked for, else as lines."""
    if options.json:
        say(figures.to_json())
    else:
        show(lines)
