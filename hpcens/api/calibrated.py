"""A calibration of a result, as what a notebook shows by itself and what writes the file that a configuration names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from hpcens.api.configuration import PathLike
from hpcens.api.evaluated import labelled_result, reader_of, require_one_deal
from hpcens.api.opened import Result
from hpcens.evaluation import Aim
from hpcens.evaluation import Calibrated as BaseCalibrated
from hpcens.evaluation import calibrate as calibrating
from hpcens.files import require_new, write_atomically
from hpcens.reports.calibration_page import draw, fragment
from hpcens.reports.calibrations import calibration_lines
from hpcens.reports.page import write_page
from hpcens.vocabulary import Array


class Calibrated(BaseCalibrated):
    """A calibration, and what it is worth: a table, and the file that `calibration:` names."""

    @staticmethod
    def of(calibrated: BaseCalibrated) -> Calibrated:
        """Return the same, as one that shows itself."""
        return Calibrated(**{each.name: getattr(calibrated, each.name) for each in fields(calibrated)})

    @property
    def table(self) -> str:
        """All figures as text."""
        return "\n".join(calibration_lines(self))

    def write(self, path: PathLike) -> None:
        """Write the file that `calibration:` of a configuration names. Raises UsageError where it exists."""
        write_atomically(require_new(Path(path)), self.to_json())

    def write_html(self, path: PathLike) -> None:
        """Write the page of it."""
        write_page(draw(self), Path(path))

    def _repr_html_(self) -> str:
        return fragment(self)

    def __repr__(self) -> str:
        return self.table


def calibrate(
    result: PathLike | Result,
    labels: str | Sequence[object] | Array | None = None,
    *,
    labels_column: str | None = None,
    groups: str | None = None,
    ignore: float | None = None,
    coverage: float | None = None,
    holdout: float | None = None,
    split: str | None = None,
    seed: int = 0,
) -> Calibrated:
    """Fit a temperature, and sets or intervals, on one part of the rows, and judge them on the other.

    result    its path, or one that is open; labels, labels_column and ignore are those of `evaluate`
    groups    a column: rows that share its value are in the same part, and are drawn together
    coverage  share of new rows that sets of classes, or intervals of values, are to hold the truth of; None: none
    holdout   share of the rows, or groups, that nothing is fitted on (default: 0.5); 0: judged in sample
    split     instead a column: 1 where rows are fitted on, 0 where they are judged on
    seed      of the hash that deals rows to parts
    Raises UsageError where the coverage cannot be kept, DataError where labels do not fit.
    """
    require_one_deal(holdout, split)
    with labelled_result(result, labels, labels_column, verb="calibrate") as (finished, labelled):
        aim = Aim(
            labels=labelled.read,
            source=labelled.source,
            groups=reader_of(finished, groups, "groups"),
            ignore=ignore,
            coverage=coverage,
            holdout=0.5 if holdout is None else holdout,
            split=reader_of(finished, split, "split"),
            seed=seed,
        )
        return Calibrated.of(calibrating(finished, aim))
