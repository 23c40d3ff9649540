"""Groups: what `plan.runtime: stacked`, which runs equal members as one, asks of each of them."""

from __future__ import annotations

from typing import Any

from hpcens.config.document import Place
from hpcens.config.rule_checks import Parts

# Keys of members that run by themselves, whatever they are made of.
_ALONE = ("torchscript", "exported", "onnx", "pickled", "rows", "views", "features")


def check_stacked(parts: Parts, place: Place, usable: dict[str, Any]) -> None:
    """Check that a member may run as one with others, where it is to. usable: its keys that can be used."""
    if parts.at("plan", "runtime") != "stacked":
        return
    alone = [key for key in _ALONE if usable.get(key) is not None]
    alone += ["weights"] if usable.get("weights") == {} else []  # its factory loads them
    alone += ["precision"] if usable.get("precision") == "auto" else []  # each may get another
    if alone:
        what = "is of a member that runs by itself, and plan.runtime is stacked; write runtime: auto"
        parts.page.problem((*place, alone[0]), what)
    if parts.at("cascade") and place[1] == 0:
        what = "takes members one after another, and plan.runtime is stacked; write runtime: auto"
        parts.page.problem(("cascade",), what)
