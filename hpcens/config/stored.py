"""Stored configurations: those of earlier code are read as what they meant to it."""

from __future__ import annotations

from typing import Any


def of_today(spec: Any) -> Any:
    """Return a stored RunSpec, as plain data, with what earlier code wrote otherwise or meant unsaid written out."""
    if not isinstance(spec, dict):
        return spec
    for member in spec.get("members") or ():
        for step in member.get("preprocess") or ():
            if isinstance(step.get("resize"), list):  # height and width
                step["resize"] = {"size": step["resize"]}
    return spec
