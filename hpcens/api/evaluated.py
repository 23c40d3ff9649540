"""A result held against labels, as what a notebook shows by itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from glob import glob, has_magic
from pathlib import Path

import numpy as np

from hpcens.api.configuration import PathLike
from hpcens.api.opened import Result
from hpcens.config import spec_from_json
from hpcens.config.job import absolute
from hpcens.dataset import LabelFiles
from hpcens.errors import DataError, UsageError
from hpcens.evaluation import Evaluation as BaseEvaluation
from hpcens.evaluation import Question, judge
from hpcens.evaluation.judging import Read
from hpcens.reports.evaluation_page import draw, fragment
from hpcens.reports.evaluations import evaluation_lines
from hpcens.reports.page import write_page
from hpcens.result import Finished
from hpcens.shell import option
from hpcens.vocabulary import Array


class Evaluation(BaseEvaluation):
    """What a result is worth against labels: a table, JSON, a page."""

    @staticmethod
    def of(evaluation: BaseEvaluation) -> Evaluation:
        """Return the same evaluation, as one that shows itself."""
        return Evaluation(**{each.name: getattr(evaluation, each.name) for each in fields(evaluation)})

    @property
    def table(self) -> str:
        """All figures as text."""
        return "\n".join(evaluation_lines(self))

    def write_html(self, path: PathLike) -> None:
        """Write the page of it."""
        write_page(draw(self), Path(path))

    def _repr_html_(self) -> str:
        return fragment(self)

    def __repr__(self) -> str:
        return self.table


def evaluate(
    result: PathLike | Result,
    labels: str | Sequence[object] | Array | None = None,
    *,
    labels_column: str | None = None,
    groups: str | None = None,
    ignore: float | None = None,
    top: int | None = None,
    ensemble_only: bool = False,
) -> Evaluation:
    """Hold a result against labels: each member and the ensemble, with intervals.

    result         its path, or one that is open
    labels         `FILE:/path`, where FILE may be a pattern, and is the dataset that was scored where it is empty; or
                   an array, a label a row of the result
    labels_column  or a column that passed through from the dataset
    groups         a column: rows that share its value depend on each other, and are drawn together
    ignore         value that stands for no label, NaN too
    top            K of top-K accuracy
    ensemble_only  do not ask for the members' outputs
    Raises UsageError where members are not stored, DataError where labels do not fit.
    """
    with labelled_result(result, labels, labels_column, verb="evaluate") as (finished, labelled):
        question = Question(
            labels=labelled.read,
            source=labelled.source,
            follow=labelled.follow,
            groups=reader_of(finished, groups, "groups"),
            ignore=ignore,
            top=top,
            members=not ensemble_only,
        )
        return Evaluation.of(judge(finished, question))


@dataclass(frozen=True, slots=True)
class Labelled:
    """Labels of a result.

    read    returns those of rows
    source  where they come from
    follow  whether they are those of the whole dataset
    """

    read: Read
    source: str
    follow: bool = False


@contextmanager
def labelled_result(
    result: PathLike | Result, labels: str | Sequence[object] | Array | None, column: str | None, *, verb: str
) -> Iterator[tuple[Finished, Labelled]]:
    """Open a result and its labels, and close them. See `evaluate`; verb: what they are opened for."""
    finished = Finished(result.path if isinstance(result, Result) else absolute(Path(result)))
    try:
        with _labels_of(finished, labels, column, verb=verb) as labelled:
            yield finished, labelled
    finally:
        finished.close()


def require_one_deal(holdout: float | None, split: str | None) -> None:
    """Raise UsageError where rows are to be dealt to parts both by a share and by a column."""
    if holdout is not None and split is not None:
        raise UsageError("rows are dealt to parts by holdout or by split", "give one of them")


def reader_of(result: Finished, name: str | None, parameter: str) -> Read | None:
    """Return what reads a column; None where none is named. See `column_of`."""
    return None if name is None else column_of(result, name, parameter)[0]


@contextmanager
def _labels_of(
    finished: Finished, labels: str | Sequence[object] | Array | None, column: str | None, *, verb: str
) -> Iterator[Labelled]:
    """Open the labels of a result. Raises UsageError unless either labels or a column of them are given."""
    if (labels is None) == (column is None):
        raise UsageError(
            f"{verb} takes labels or a column of them",
            f"give one: {option('labels', 'FILE:/path')}, or {option('labels_column', 'NAME')}",
        )
    if column is not None:
        yield Labelled(*column_of(finished, column, "labels_column"))
    elif isinstance(labels, str):
        files = _files(finished, labels)
        try:
            yield Labelled(files.read, f"{files.path}:/{files.key.strip('/')}", files.follows)
        finally:
            files.close()
    else:
        yield Labelled(_array(finished, np.asarray(labels)), "of an array")


def column_of(result: Finished, name: str, parameter: str) -> tuple[Read, str]:
    """Return what reads a column, and its name.

    parameter  of the API, by which errors name it
    Raises UsageError where there is none, DataError where it is damaged.
    """
    full = name if name.startswith("columns/") else f"columns/{name.strip('/')}"
    if full not in result.columns:
        there = ", ".join(column.partition("/")[2] for column in result.columns) or "none"
        raise UsageError(
            f"{option(parameter, name)}: {result.path} has no such column; it has {there}",
            "columns pass through from the dataset: dataset.columns in the YAML; or give"
            f" {option('labels', 'FILE:/path')}",
        )
    if broken := result.broken_columns:
        raise DataError(f"{result.path}: {', '.join(broken)} is not what was written", "the file is damaged")
    array = result.array(full)
    return lambda start, stop: np.asarray(array[start:stop]), full


def _files(result: Finished, labels: str) -> LabelFiles:
    """Return labels of files. Raises UsageError where the text is no FILE:/path, or a pattern fits nothing."""
    pattern, colon, key = labels.rpartition(":")
    if not colon or not key.strip("/"):
        raise UsageError(
            f"{option('labels', labels)}: no FILE:/path",
            f"name file and dataset: {option('labels', 'dataset.h5:/labels')}",
        )
    paths = sorted(glob(pattern)) if has_magic(pattern) and not Path(pattern).exists() else [pattern] * bool(pattern)
    if pattern and not paths:
        raise UsageError(f"{option('labels', labels)}: no file fits {pattern}", "check the pattern")
    spec = spec_from_json(result.document("config"))
    scored = [Path(str(name)) for name in result.attributes["datasets"]]
    files = [absolute(Path(path)) for path in paths]
    return LabelFiles(files, key.strip("/"), scored, spec.dataset, result.fingerprint["data"])


def _array(result: Finished, labels: Array) -> Read:
    rows = result.segmentation.rows
    if not labels.ndim or len(labels) != rows:
        raise DataError(
            f"{len(labels) if labels.ndim else 1} labels are given, and the result has {rows} rows",
            "give one for each row of the result",
        )
    return lambda start, stop: labels[start:stop]
