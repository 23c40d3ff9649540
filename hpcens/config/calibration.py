"""The calibration: its file is read where the YAML is, so that every rank applies what was checked."""

from __future__ import annotations

import json
import os
from dataclasses import fields
from typing import Any

from hpcens.config.checks import explain
from hpcens.config.document import Page, Place, read_beside, shown
from hpcens.config.keys import example
from hpcens.config.rule_checks import Parts
from hpcens.files import MALFORMED
from hpcens.shell import option
from hpcens.specs import Calibration

FORMAT = 1
_PLACE: Place = ("calibration",)
_AGAIN = "write it again: hpcens calibrate"
_MOST_BYTES = 1 << 26


def expand_calibration(page: Page, tree: dict[str, Any]) -> None:
    """Put what the file says in the place of its path; `false` stands for none."""
    value = tree.pop("calibration")
    if value is False:
        return
    if isinstance(value, Calibration):  # a result's own
        tree["calibration"] = {"path": str(value.path), **value.content}
        return
    if isinstance(value, dict):
        for key in value.keys() - {"path"}:
            explain(page, "unexpected_keyword_argument", (*_PLACE, key), value[key])
        value = value.get("path")
    if not isinstance(value, str) or not value:
        page.refuse(_PLACE, f"expected the path of a file, not {shown(value)}; {example(_PLACE)}")
    else:
        tree["calibration"] = _read(page, value)


def _read(page: Page, file: str) -> Any:
    """Read a file that `hpcens calibrate` wrote; return its content, None where it is refused."""
    from pydantic import TypeAdapter

    path = page.folder / os.path.expanduser(file)
    names = {field.name for field in fields(Calibration)} - {"path"}
    try:
        text = read_beside(path, _MOST_BYTES)
        written = json.loads(text)
        content = {name: written[name] for name in names}
        as_written = json.dumps({"path": file, **content})
        digest = TypeAdapter(Calibration).validate_json(as_written, strict=True).digest
    except OSError as error:
        return page.refuse(_PLACE, f"{shown(file)}: {error.strerror}; name the file that hpcens calibrate wrote")
    except MALFORMED:
        return page.refuse(_PLACE, f"{shown(file)}: is no calibration; name the file that hpcens calibrate wrote")
    if written.get("format") != FORMAT:
        return page.refuse(_PLACE, f"{shown(file)}: is of format {written.get('format')}, not {FORMAT}; {_AGAIN}")
    if digest != written.get("digest"):
        return page.refuse(_PLACE, f"{shown(file)}: is not what hpcens calibrate wrote; {_AGAIN}")
    return {"path": file, **content}


def check_calibration(parts: Parts) -> None:
    """Check a calibration against the task, and what is stored of it."""
    page, calibration = parts.page, parts.at("calibration")
    names = [name for name in parts.at("output", "datasets") or () if name in ("set", "interval")]
    places = {
        name: ("output", "datasets", i)
        for i, name in enumerate(parts.at("output", "datasets") or ())
        if name in ("set", "interval")
    }
    if not isinstance(calibration, dict):
        for name in names if _PLACE not in page.refused else ():
            page.problem(places[name], f"{name} comes of a calibration with coverage; name one: calibration:")
        return
    values = {*parts.outputs.values()} == {"values"}
    kind = "values" if values else "labels" if parts.at("task") == "multilabel" else "classes"
    if calibration["kind"] != kind:
        page.problem(_PLACE, f"was fitted to {calibration['kind']}, and these are {kind}; {_AGAIN}")
        return
    covering = "" if calibration["coverage"] is None else "interval" if values else "set"
    for name in names:
        if name != covering and kind != "labels":  # of which `task_checks` refuses sets
            remedy = f"ask for {covering}" if covering else f"fit it with {option('coverage')}"
            page.problem(places[name], f"{name} is not of this calibration of {kind}; {remedy}, or remove it")
    if values and parts.at("output", "datasets") and not names:
        page.problem(("output", "datasets"), "calibrated values have intervals, and none is asked for; add interval")
