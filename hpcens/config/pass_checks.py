"""Passes: what a member that is run several times a row asks of its source, its output, runtimes and outputs."""

from __future__ import annotations

from typing import Any

from hpcens.config.document import Place
from hpcens.config.rule_checks import Parts
from hpcens.specs import OF_ENTROPY

_GRAPHS = ("torchscript", "exported", "onnx")


def check_passes(parts: Parts, place: Place, usable: dict[str, Any]) -> None:
    """Check what a member's passes ask of the rest. usable: the member's keys that can be used."""
    page, here = parts.page, (*place, "passes")
    if usable.get("passes") is None:
        return
    if graph := next((source for source in _GRAPHS if source in usable), None):
        what = f"is for networks whose dropout modules can be switched on, and {graph} is a graph without any"
        page.problem(here, f"{what}; remove it, or give factory and weights")
    if parts.outputs.get(int(place[1])) == "values":
        page.problem(here, "is for members that classify so far, and this one gives values; remove it")
    runtime = parts.at("plan", "runtime")
    if runtime not in (None, "auto", "eager"):
        page.problem(here, f"runs in eager alone, and plan.runtime is {runtime}; write runtime: auto or eager")
    asked = [name for name in parts.at("output", "datasets") or () if name in OF_ENTROPY]
    if asked and parts.at("rule", "space") == "logits":
        what = f"have entropies of probabilities, and rule.space is logits beside output.datasets with {asked[0]}"
        page.problem(here, f"{what}; remove rule.space, or {asked[0]}")
