"""Keeping: whether a result's rows can be chosen as the YAML says, as far as it tells."""

from __future__ import annotations

from difflib import get_close_matches

from hpcens.config.document import shown
from hpcens.config.keys import example
from hpcens.config.rule_checks import Parts

_KEEP = ("output", "keep")
_BY = (*_KEEP, "by")


def check_keep(parts: Parts) -> None:
    """Check which rows are kept, and by what."""
    page, keep = parts.page, parts.at(*_KEEP)
    if not isinstance(keep, dict) or any(place[:2] == _KEEP for place in page.refused):
        return
    top, above = keep.get("top"), keep.get("above")
    if top is None and above is None:
        page.problem(_KEEP, f"keeps nothing; {example(_KEEP)}")
    elif top is not None and above is not None:
        page.problem((*_KEEP, "above"), "is one of two ways, top the other; keep one")
    by = keep.get("by") or {}
    for key in by.keys() - {"dataset", "class"}:
        near = get_close_matches(str(key), ("dataset", "class"), 1)
        page.problem(
            (*_BY, key), f"unknown key; {f'did you mean {near[0]}?' if near else 'known here: dataset, class'}"
        )
    _check_dataset(parts, by.get("dataset", "prediction"))
    classes, wanted = parts.at("classes"), by.get("class")
    if not isinstance(wanted, str) or wanted.isdecimal():
        return
    if isinstance(classes, list) and wanted not in classes:
        page.problem((*_BY, "class"), f"{shown(wanted)} is none of the classes; correct it")
    elif classes is None and ("classes",) not in page.refused:
        page.problem((*_BY, "class"), f"{shown(wanted)} is a name, and classes have none; name them, or give a number")


def _check_dataset(parts: Parts, dataset: str) -> None:
    names = parts.at("output", "datasets")
    if names is not None and dataset.partition("/")[0] not in names and dataset not in ("top_values",):
        parts.page.problem(
            (*_BY, "dataset"), f"{shown(dataset)} is not among output.datasets; add it there, or name one of them"
        )
