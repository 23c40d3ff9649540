"""A selection of a result's members, as what a notebook shows by itself and what writes its configuration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path

from hpcens.api.configuration import PathLike
from hpcens.api.evaluated import labelled_result, reader_of, require_one_deal
from hpcens.api.opened import Result
from hpcens.config.job import absolute
from hpcens.config.written import yaml_of
from hpcens.evaluation import By, Method, Wish
from hpcens.evaluation import Selection as BaseSelection
from hpcens.evaluation import select as selecting
from hpcens.files import require_new, write_atomically
from hpcens.reports.page import write_page
from hpcens.reports.selection_page import draw, fragment
from hpcens.reports.selections import selection_lines
from hpcens.specs import RunSpec
from hpcens.vocabulary import Array


class Selection(BaseSelection):
    """Members and weights, and what they are worth: a table, JSON, and the configuration to go on with."""

    @staticmethod
    def of(selection: BaseSelection) -> Selection:
        """Return the same selection, as one that shows itself."""
        return Selection(**{each.name: getattr(selection, each.name) for each in fields(selection)})

    @property
    def table(self) -> str:
        """All figures as text."""
        return "\n".join(selection_lines(self))

    def write_yaml(self, path: PathLike) -> None:
        """Write the result's configuration with the members chosen and their weights.

        A result of it is named after the YAML, beside it: what was selected from stays.
        Raises UsageError where the file exists, or members' code would not be found from its folder.
        """
        file = require_place(Path(path), self.spec)
        output = replace(self.spec.output, path=file.with_suffix(".predictions.h5"), folder=None)
        write_atomically(file, yaml_of(replace(self.spec, output=output), file.parent))

    def write_html(self, path: PathLike) -> None:
        """Write the page of it."""
        write_page(draw(self), Path(path))

    def _repr_html_(self) -> str:
        return fragment(self)

    def __repr__(self) -> str:
        return self.table


def require_place(path: Path, spec: RunSpec) -> Path:
    """Return where a configuration can be written. Raises UsageError where it cannot; see `Selection.write_yaml`."""
    file = absolute(require_new(path))
    yaml_of(spec, file.parent)
    return file


def select(
    result: PathLike | Result,
    labels: str | Sequence[object] | Array | None = None,
    *,
    labels_column: str | None = None,
    groups: str | None = None,
    ignore: float | None = None,
    by: By | None = None,
    method: Method = "greedy",
    holdout: float | None = None,
    split: str | None = None,
    budget: float | None = None,
) -> Selection:
    """Choose members and weights on one part of the rows, and judge them on the other.

    result   its path, or one that is open; labels, labels_column and ignore are those of `evaluate`
    groups   a column: rows that share its value are in the same part, and are drawn together
    by       log_loss (of classes, where nothing is said) or squared_error (of values)
    method   greedy: members are taken with replacement; weights: the best weights there are, 0 or more
    holdout  share of the rows, or groups, that nothing is chosen on (default: 0.5)
    split    instead a column: 1 where rows are chosen on, 0 where they are judged on
    budget   what the members may take together, in device-hours for the rows of the result
    Raises UsageError where members are not stored or nothing is within the budget, DataError where labels do not fit.
    """
    require_one_deal(holdout, split)
    with labelled_result(result, labels, labels_column, verb="select") as (finished, labelled):
        wish = Wish(
            labels=labelled.read,
            source=labelled.source,
            groups=reader_of(finished, groups, "groups"),
            ignore=ignore,
            by=by,
            method=method,
            holdout=0.5 if holdout is None else holdout,
            split=reader_of(finished, split, "split"),
            budget=budget,
        )
        return Selection.of(selecting(finished, wish))
