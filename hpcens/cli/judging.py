"""Verbs that hold a result against labels: evaluate."""

from __future__ import annotations

from argparse import Namespace

from hpcens import api
from hpcens.cli.results import refuse_many
from hpcens.cli.terminal import say, short, show
from hpcens.errors import COMPLETE, UsageError
from hpcens.files import write_atomically
from hpcens.reports.evaluations import evaluation_lines
from hpcens.reports.page import require_page


def evaluate(options: Namespace) -> int:
    """Hold a result against labels: print the table, write JSON and page."""
    refuse_many(options.result)
    if options.html is not None:
        require_page(options.html)
    for path in filter(None, (options.output, options.html)):
        if not path.absolute().parent.is_dir():  # known now, not after the pass over the result
            raise UsageError(f"the folder {path.parent} does not exist", "make it, or choose another")
    evaluation = api.evaluate(
        options.result,
        options.labels,
        labels_column=options.labels_column,
        groups=options.groups,
        ignore=options.ignore,
        top=options.top,
        ensemble_only=options.ensemble_only,
    )
    if options.json:
        say(evaluation.to_json())
    else:
        show(evaluation_lines(evaluation))
    if options.output is not None:
        write_atomically(options.output, evaluation.to_json())
    if options.html is not None:
        evaluation.write_html(options.html)
    for path in filter(None, (options.output, options.html)):
        say(f"→ {short(path)}", to_stderr=options.json)
    return COMPLETE
