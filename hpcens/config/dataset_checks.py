"""Dataset: what must fit together in what a user writes of the files that are read."""

from __future__ import annotations

from typing import Any

from hpcens.config.document import Page, Place
from hpcens.config.keys import example


def check_dataset(page: Page, dataset: Any) -> None:
    """Check what must fit together under `dataset:`, as far as the parts can be used."""
    if not isinstance(dataset, dict):
        return
    if dataset.get("input") is not None and dataset.get("inputs") is not None:
        page.problem(("dataset", "input"), "is one of two ways; name it among the inputs, or remove those")
    inputs = dataset.get("inputs")
    if isinstance(inputs, dict) and "" in inputs:
        page.problem(("dataset", "inputs", ""), "has no name; for example images")
    for name, wanted in inputs.items() if isinstance(inputs, dict) else ():
        if isinstance(wanted, dict):
            _check_input(page, ("dataset", "inputs", name), wanted)
    _check_select(page, dataset.get("select"))


def _check_input(page: Page, place: Place, wanted: dict[str, Any]) -> None:
    """Check that no key of an input is without effect."""
    decode, fill = wanted.get("decode"), wanted.get("fill")
    if wanted.get("lengths") is True:
        for key in ("length", "fill", "bytes", "decode", "field", "axis"):
            if wanted.get(key) not in (None, False, "auto", "false"):
                page.problem((*place, key), "has no effect on the lengths of rows; make them an input of their own")
        return
    if wanted.get("field") is not None and (decode == "true" or fill is not None):
        key = "decode" if decode == "true" else "fill"
        page.problem((*place, key), "is for whole datasets: a field has no attributes of its own; remove it")
    elif decode == "false" and fill is not None:
        page.problem((*place, "fill"), "replaces fill values, which decode: false takes as they are; keep one")


def _check_select(page: Page, select: Any) -> None:
    place = ("dataset", "select")
    if not isinstance(select, dict) or any(refused[:2] == place for refused in page.refused):
        return
    start, stop, path = (select.get(key) for key in ("start", "stop", "path"))
    if path is not None and (start is not None or stop is not None):
        page.problem((*place, "path"), "selects by a dataset, start and stop by a range; keep one")
    elif path is None and start is None and stop is None:
        page.problem(place, f"selects nothing; {example(place)}")
    elif isinstance(start, int) and isinstance(stop, int) and start >= stop:
        page.problem((*place, "stop"), f"{stop} is not above start, which is {start}")
