"""Read a configuration without members: a rule, outputs, a calibration; the rest is that of a result that has them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from hpcens.config import checked
from hpcens.config.document import Page, compose, read
from hpcens.specs import Calibration, RunSpec

_KEYS = ("rule", "output", "calibration")


def is_partial(path: Path) -> bool:
    """Tell whether a configuration names no members. Raises UsageError where it cannot be read."""
    return "members" not in compose(Page(path), read(path))


def load_partial(path: Path, stored: RunSpec) -> RunSpec:
    """Read the rule, the outputs and the calibration of a YAML file over a result's configuration.

    A function of a rule is imported from the file's folder. Raises UsageError naming all that is wrong at once.
    """
    page = Page(path)
    return over(page, compose(page, read(path)), stored, Path(os.path.abspath(path)).parent)


def over(page: Page, tree: Mapping[str, Any], stored: RunSpec, folder: Path) -> RunSpec:
    """Return a result's configuration with the rule, the outputs and the calibration of a document.

    page    the document's, for what is wrong
    stored  what the result was made with
    folder  where a function of the rule is imported from, and relative paths start
    """
    for key in tree.keys() - {*_KEYS}:
        page.problem(
            (key,), "stands without members; write rule, output and calibration alone, or the whole configuration"
        )
    if page.problems:
        raise page.error()
    # stand-ins: what the rule and the outputs have to fit to
    members = [
        {"name": member.name, "torchscript": "stored", "output": member.output, "precision": member.output_dtype}
        | ({"rows": {"path": "stored"}} if member.rows is not None else {})
        for member in stored.members
    ]
    classes = None if stored.classes is None else list(stored.classes)
    around = {"members": members, "task": stored.task, "classes": classes, "class_axis": stored.class_axis}
    own = {"calibration": stored.calibration} if stored.calibration is not None else {}
    read_with_them = checked(page, {**own, **tree, **around}, folder)
    output = read_with_them.output if "output" in tree else stored.output
    if "output" not in tree:
        output = replace(output, datasets=_covering(output.datasets, read_with_them.calibration))
    return replace(
        stored,
        members=tuple(replace(member, weight=None) for member in stored.members),
        rule=read_with_them.rule if "rule" in tree else stored.rule,
        output=output,
        calibration=read_with_them.calibration,
        search_path=folder if "rule" in tree and ":" in read_with_them.rule.name else stored.search_path,
    )


def _covering(datasets: tuple[str, ...], calibration: Calibration | None) -> tuple[str, ...]:
    """Return a result's datasets with the sets or intervals that another calibration has, and no others."""
    wanted = calibration.covering if calibration is not None else ""
    kept = tuple(name for name in datasets if name not in ("set", "interval") or name == wanted)
    return (*kept, wanted) if wanted and wanted not in kept else kept
